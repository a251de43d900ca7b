import type { ServerHttp2Stream } from "node:http2";
import type {
  BinaryReadOptions,
  BinaryWriteOptions,
  DescMessage,
  Message,
} from "@bufbuild/protobuf";
import type { ConnectError, ContextValues, Interceptor, MethodImplSpec } from "@connectrpc/connect";
import type { Metadata } from "@grpc/grpc-js";
import type { Shutdown } from "./call-lifetime.js";

/** What is known of a call when it begins. */
export interface IncomingCall {
  readonly metadata: Metadata;
  /** Of a unary call only. grpc-js, which serves the others, does not tell. */
  readonly stream?: ServerHttp2Stream;
  /** The value of `:authority`. */
  getHost(): string;
  getPath(): string;
  /** The address of the client, such as `127.0.0.1:34567`. */
  getPeer(): string;
}

/** Replaces the error (InvalidArgument) of malformed bytes by a more helpful one. */
export type DescribeMalformed = (
  error: ConnectError,
  desc: DescMessage,
  bytes: Uint8Array,
) => ConnectError;

/** Throws a ConnectError for bytes that must not be parsed. */
export type CheckRequest = (desc: DescMessage, bytes: Uint8Array) => void;

/** Serializes the messages of some types, as toBinary would. Undefined for the others. */
export type Serialize = (desc: DescMessage, message: Message) => Uint8Array | undefined;

/** One method, and everything that serves it. */
export interface Route<Spec extends MethodImplSpec = MethodImplSpec> {
  readonly spec: Spec;
  /** Such as `/sessiond.v1.SessionService/VerifySession`. */
  readonly path: string;
  readonly interceptors: readonly Interceptor[];
  readonly contextValues: (call: IncomingCall) => ContextValues;
  readonly maxTimeoutMs: number;
  readonly binaryOptions: Partial<BinaryReadOptions & BinaryWriteOptions> | undefined;
  readonly describeMalformed: DescribeMalformed | undefined;
  readonly checkRequest: CheckRequest | undefined;
  readonly serialize: Serialize | undefined;
  readonly shutdown: Shutdown;
}

/** A function that interceptors wrap. Connect does not export its name. */
export type Next = ReturnType<Interceptor>;

/**
 * Wraps `innermost` so that the first interceptor is the outermost.
 *
 * Every call does this again, as in Connect, because an interceptor may keep the state of one call
 * between its two arrows. It costs one closure per interceptor.
 */
export function intercept(innermost: Next, interceptors: readonly Interceptor[]): Next {
  return interceptors.reduceRight((next, interceptor) => interceptor(next), innermost);
}
