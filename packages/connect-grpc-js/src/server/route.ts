import type { BinaryReadOptions, BinaryWriteOptions, DescMessage } from "@bufbuild/protobuf";
import type { ConnectError, ContextValues, Interceptor, MethodImplSpec } from "@connectrpc/connect";
import type { ServerUnaryCall } from "@grpc/grpc-js";
import type { Shutdown } from "./call-lifetime.js";

/** What every kind of grpc-js server call tells about itself. */
export type IncomingCall = Pick<
  ServerUnaryCall<unknown, unknown>,
  "metadata" | "getAuthContext" | "getDeadline" | "getHost" | "getPath" | "getPeer"
>;

/** Says more of bytes that cannot be parsed than the error (InvalidArgument) does. */
export type DescribeMalformed = (
  error: ConnectError,
  desc: DescMessage,
  bytes: Uint8Array,
) => ConnectError;

/** One method and all that serving it takes. */
export interface Route<Spec extends MethodImplSpec = MethodImplSpec> {
  readonly spec: Spec;
  readonly interceptors: readonly Interceptor[];
  readonly contextValues: (call: IncomingCall) => ContextValues;
  readonly maxTimeoutMs: number;
  readonly binaryOptions: Partial<BinaryReadOptions & BinaryWriteOptions> | undefined;
  readonly describeMalformed: DescribeMalformed | undefined;
  readonly shutdown: Shutdown;
}

/** A function that interceptors wrap. Connect does not export its name. */
export type Next = ReturnType<Interceptor>;

/**
 * Wraps `innermost` so that the first interceptor is the outermost.
 *
 * Done anew for every call, as Connect does it: an interceptor may keep state
 * of one call between its two arrows. It costs one closure per interceptor.
 */
export function intercept(innermost: Next, interceptors: readonly Interceptor[]): Next {
  return interceptors.reduceRight((next, interceptor) => interceptor(next), innermost);
}
