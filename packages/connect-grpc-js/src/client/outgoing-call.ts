import type { ChannelInterface, Metadata } from "@grpc/grpc-js";
import type { Parsing } from "./messages.js";

/** A call of grpc-js. */
export type Call = ReturnType<ChannelInterface["createCall"]>;

/** What a call sends, and until when. */
export interface OutgoingCall<Method> extends Parsing {
  readonly method: Method;
  readonly path: string;
  readonly metadata: Metadata;
  /** By the wall clock, as grpc-js has deadlines. It makes a timer of it at once. */
  readonly deadline: number;
  readonly signal: AbortSignal | undefined;
}

/** Whether a stream of HTTP/2 was opened for the call. Only such a call has a peer to authenticate. */
export function wasSent(call: Call): boolean {
  return call.getAuthContext() !== null;
}
