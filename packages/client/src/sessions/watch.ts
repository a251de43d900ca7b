import { setTimeout as sleep } from "node:timers/promises";
import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import type {
  WatchSessionsResponse,
  SessionEvent as WireEvent,
} from "@sessiond/proto/sessiond/v1/session_service";
import { SessionEventType as WireType } from "@sessiond/proto/sessiond/v1/session_service";
import { malformedAnswer, SessiondError } from "../error.js";
import { narrowing, text } from "../rpc/fields.js";
import { backoffMs } from "../rpc/retry.js";
import type { RpcCaller } from "../rpc/rpc-caller.js";

/** Options of `watchSessions`. */
export interface WatchSessionsOptions {
  /** Whose sessions to watch; everyone's when left out. */
  userId?: string;

  /**
   * The last `resumeToken` of an earlier watch with the same `userId`, to go on
   * after it. From now on when left out.
   */
  resumeToken?: string | undefined;

  /** Ends the watch when aborted: it then throws CANCELED. */
  signal?: AbortSignal | undefined;
}

/** What a watch tells. */
export type WatchMessage = {
  /** Where a later watch goes on after this message. Opaque. */
  readonly resumeToken: string;
} & (
  | {
      readonly type: "events";

      /** In order for each session; at least one. */
      readonly events: readonly SessionEvent[];
    }
  | {
      readonly type: "checkpoint";

      /** Everything that was done before this time, by the server's clock, has been told. */
      readonly time: Date;
    }
  | {
      /** Events are missing: what is known about sessions must be dropped and read anew. */
      readonly type: "reset";

      /** For people; the wording may change. */
      readonly reason: string;
    }
);

/** A change of a session. */
export interface SessionEvent {
  readonly type: SessionEventType;
  readonly sessionId: string;
  readonly userId: string;
  readonly time: Date;

  /** Grows by one with every change of the session. */
  readonly version: number;

  /** Why the session ended; with `revoked` and `evicted` only, if a reason was given. */
  readonly reason?: string | undefined;
}

/** `unknown` is a change of a kind that only a newer server knows. */
export type SessionEventType =
  | "created"
  | "updated"
  | "token_rotated"
  | "revoked"
  | "evicted"
  | "unknown";

/**
 * A stream on which nothing came for this long is given up: a healthy server
 * sends something every second, so that five are a connection that died silently.
 */
const SILENCE_MS = 5000;

/** Watches; see `SessionClient.watchSessions`. */
export async function* watchSessions(
  rpc: RpcCaller,
  options: WatchSessionsOptions,
): AsyncGenerator<WatchMessage, never, undefined> {
  const userId = narrowing(options, "userId", "user_id");
  let resumeToken = text(options.resumeToken ?? "", "resume_token");
  const { signal = new AbortController().signal } = options;
  let hasBegun = false;
  for (let failures = 0; ; ) {
    const watch = watchOnce(rpc, { userId, resumeToken }, signal);
    try {
      let result = await watch.next();
      for (; !result.done; result = await watch.next()) {
        hasBegun = true;
        failures = 0;
        const { resumeToken: token } = result.value;
        if (token !== "") resumeToken = token;
        const message = messageFrom(result.value);
        if (message !== undefined) yield message;
      }
      const error = result.value;
      if (!mayResume(error, hasBegun)) throw error;
      await rpc.pause(backoffMs(++failures, error, Math.random()), signal);
    } finally {
      // Also where whoever took the messages has stopped.
      await watch.return(undefined as never);
    }
  }
}

/** One stream. Returns the error that it ended with, so that none of the taker's passes for it. */
async function* watchOnce(
  rpc: RpcCaller,
  request: { readonly userId: string; readonly resumeToken: string },
  signal: AbortSignal,
): AsyncGenerator<WatchSessionsResponse, SessiondError, undefined> {
  const end = new AbortController();
  const answers = rpc.watch(request, AbortSignal.any([signal, end.signal]));
  try {
    for (;;) {
      const result = await heard(answers.next());
      if (result.done) return new SessiondError("UNAVAILABLE", "the server has ended the watch");
      yield result.value;
    }
  } catch (error) {
    if (error instanceof SessiondError) return error;
    throw error;
  } finally {
    end.abort();
    // It may have an answer to wait for; that it fails then is known here.
    answers.return(undefined).catch(() => {});
  }
}

/** Waits for an answer, but not for ever. */
async function heard<T>(answer: Promise<T>): Promise<T> {
  const done = new AbortController();
  const silence = sleep(SILENCE_MS, undefined, { signal: done.signal }).then(() => {
    throw new SessiondError("UNAVAILABLE", `nothing was heard for ${SILENCE_MS} ms`);
  });
  try {
    return await Promise.race([answer, silence]);
  } finally {
    done.abort();
  }
}

/** Whether a watch that ended with this error may do better at the next attempt. */
function mayResume(error: SessiondError, hasBegun: boolean): boolean {
  switch (error.reason) {
    case "CANCELED":
    case "INVALID_ARGUMENT":
    case "PERMISSION_DENIED":
      return false;
    case "UNAUTHENTICATED":
      // Where the `token` function has worked before, it may again.
      return hasBegun && error.cause !== undefined;
    default:
      return error.code !== Code.Unimplemented;
  }
}

/** A message as callers see it; undefined for one of a kind that only a newer server knows. */
function messageFrom({ message, resumeToken }: WatchSessionsResponse): WatchMessage | undefined {
  switch (message.case) {
    case "events":
      return { type: "events", events: message.value.events.map(eventFrom), resumeToken };
    case "checkpoint":
      return { type: "checkpoint", time: dateFrom(message.value.time), resumeToken };
    case "reset":
      return { type: "reset", reason: message.value.reason, resumeToken };
    default:
      return undefined;
  }
}

const types: Readonly<Partial<Record<WireType, SessionEventType>>> = {
  [WireType.CREATED]: "created",
  [WireType.UPDATED]: "updated",
  [WireType.TOKEN_ROTATED]: "token_rotated",
  [WireType.REVOKED]: "revoked",
  [WireType.EVICTED]: "evicted",
};

function eventFrom(event: WireEvent): SessionEvent {
  return {
    type: types[event.type] ?? "unknown",
    sessionId: event.sessionId,
    userId: event.userId,
    time: dateFrom(event.time),
    version: Number(event.version),
    ...(event.reason !== "" && { reason: event.reason }),
  };
}

function dateFrom(timestamp: Timestamp | undefined): Date {
  if (timestamp === undefined) throw malformedAnswer("time is missing");
  return timestampDate(timestamp);
}
