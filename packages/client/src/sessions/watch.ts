import { setTimeout as sleep } from "node:timers/promises";
import { Code } from "@connectrpc/connect";
import {
  type SessionEvent as ProtoEvent,
  SessionEventType as ProtoType,
  type WatchSessionsResponse,
} from "@sessiond/proto/sessiond/v1/session_service";
import { SessiondError } from "../error.js";
import { known, type NamesOf } from "../known-names.js";
import { dateFrom, narrowing, text } from "../rpc/fields.js";
import { backoffMs } from "../rpc/retry.js";
import type { RpcCaller } from "../rpc/rpc-caller.js";

/** Options of `watchSessions`. */
export interface WatchSessionsOptions {
  /** The user whose sessions to watch. Default: all users. */
  userId?: string;

  /**
   * The last `resumeToken` of an earlier watch with the same `userId`, to continue after it.
   * Default: the watch starts now.
   */
  resumeToken?: string | undefined;

  /** Ends the watch when aborted. The watch then throws CANCELED. */
  signal?: AbortSignal | undefined;
}

const OPTIONS = {
  userId: true,
  resumeToken: true,
  signal: true,
} satisfies NamesOf<WatchSessionsOptions>;

/** A message of a watch. */
export type WatchMessage = {
  /** Opaque. A later watch with this token continues after this message. */
  readonly resumeToken: string;
} & (
  | {
      readonly type: "events";

      /** At least one. The events of one session are in order. */
      readonly events: readonly SessionEvent[];
    }
  | {
      readonly type: "checkpoint";

      /** The watch has sent all changes before this time, by the server's clock. */
      readonly time: Date;
    }
  | {
      /** Events are missing: drop what you know about sessions and read it again. */
      readonly type: "reset";

      /** For people. The wording may change. */
      readonly reason: string;
    }
);

/** A change of a session. */
export interface SessionEvent {
  readonly type: SessionEventType;
  readonly sessionId: string;
  readonly userId: string;
  readonly time: Date;

  /** Every change of the session increases it by one. */
  readonly version: number;

  /** Why the session ended. Only with `revoked` and `evicted`, and only if there was a reason. */
  readonly reason?: string | undefined;

  /**
   * Who made the change: the subject of the access token of the call. Absent if no call made it, or
   * the server is too old to tell.
   */
  readonly changedBy?: string | undefined;
}

/**
 * `token_reused`: somebody presented a token that had been replaced, and so may have stolen it.
 * `unknown` is a kind of change that only a newer server knows.
 */
export type SessionEventType =
  | "created"
  | "updated"
  | "token_rotated"
  | "token_reused"
  | "revoked"
  | "evicted"
  | "unknown";

/**
 * We give up a stream after this much silence. A healthy server sends a message every second, so
 * the connection has died.
 */
const SILENCE_MS = 5000;

/** Watches; see `SessionClient.watchSessions`. */
export async function* watchSessions(
  rpc: RpcCaller,
  options: WatchSessionsOptions,
): AsyncGenerator<WatchMessage, never, undefined> {
  const userId = narrowing(known(options, OPTIONS), "userId", "user_id");
  let resumeToken = text(options.resumeToken ?? "", "resume_token");
  const { signal = new AbortController().signal } = options;
  for (let failures = 0; ; ) {
    const watch = watchOnce(rpc, { userId, resumeToken }, signal);
    try {
      let result = await watch.next();
      for (; !result.done; result = await watch.next()) {
        failures = 0;
        const { resumeToken: token } = result.value;
        if (token !== "") resumeToken = token;
        const message = messageFrom(result.value);
        if (message !== undefined) yield message;
      }
      const error = result.value;
      if (!mayResume(error)) throw error;
      await rpc.pause(backoffMs(++failures, error, Math.random()), signal);
    } finally {
      // Runs also when the consumer leaves its loop.
      await watch.return(undefined as never);
    }
  }
}

/** One stream. Returns its error, so that an error of the consumer cannot pass for it. */
export async function* watchOnce(
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
    // A pending read fails because of the abort above, so we ignore its error.
    answers.return(undefined).catch(() => {});
  }
}

/** Waits for an answer, at most SILENCE_MS. */
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

/** Whether another attempt may succeed after this error. */
export function mayResume(error: SessiondError): boolean {
  switch (error.reason) {
    case "CANCELED":
    case "INVALID_ARGUMENT":
    case "UNAUTHENTICATED":
    case "PERMISSION_DENIED":
      return false;
    default:
      return error.code !== Code.Unimplemented;
  }
}

/** The message for the caller. Undefined for a kind of message that only a newer server knows. */
export function messageFrom({
  message,
  resumeToken,
}: WatchSessionsResponse): WatchMessage | undefined {
  switch (message.case) {
    case "events":
      return { type: "events", events: message.value.events.map(eventFrom), resumeToken };
    case "checkpoint":
      return { type: "checkpoint", time: dateFrom(message.value.time, "time"), resumeToken };
    case "reset":
      return { type: "reset", reason: message.value.reason, resumeToken };
    default:
      return undefined;
  }
}

const types: Readonly<Partial<Record<ProtoType, SessionEventType>>> = {
  [ProtoType.CREATED]: "created",
  [ProtoType.UPDATED]: "updated",
  [ProtoType.TOKEN_ROTATED]: "token_rotated",
  [ProtoType.TOKEN_REUSED]: "token_reused",
  [ProtoType.REVOKED]: "revoked",
  [ProtoType.EVICTED]: "evicted",
};

function eventFrom(event: ProtoEvent): SessionEvent {
  return {
    type: types[event.type] ?? "unknown",
    sessionId: event.sessionId,
    userId: event.userId,
    time: dateFrom(event.time, "time"),
    version: Number(event.version),
    ...(event.reason !== "" && { reason: event.reason }),
    ...(event.changedBy !== "" && { changedBy: event.changedBy }),
  };
}
