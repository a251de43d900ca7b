import { setTimeout as sleep } from "node:timers/promises";
import type { DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { Transport } from "@connectrpc/connect";
import { createAsyncIterable } from "@connectrpc/connect/protocol";
import { LockService } from "@sessiond/proto/sessiond/v1/lock_service";
import { RateLimitService } from "@sessiond/proto/sessiond/v1/rate_limit_service";
import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";
import { invalidArgument, SessiondError } from "../error.js";
import {
  type AccessToken,
  accessTokenFault,
  type CallOptions,
  type CheckedOptions,
  timeoutFault,
} from "../options.js";
import { errorFromTransport } from "./received-error.js";
import { backoffMs, mayRetry, type UnaryMethod } from "./retry.js";

const METHODS = { ...SessionService.method, ...LockService.method, ...RateLimitService.method };

type Methods = typeof METHODS;
type Request<M extends UnaryMethod> = MessageInitShape<Methods[M]["input"]>;
type Answer<M extends UnaryMethod> = MessageShape<Methods[M]["output"]>;
type WatchRequest = MessageInitShape<Methods["watchSessions"]["input"]>;
type WatchAnswer = MessageShape<Methods["watchSessions"]["output"]>;

/** Why calls are aborted when the client closes. */
const CLOSED = Symbol("closed");

/** What ends one call before its time. */
interface Limits {
  /** On the clock of `performance.now()`. */
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
}

/**
 * Makes calls: each with the access token, within its timeout, again where that
 * is safe, and with every failure turned into a SessiondError.
 */
export class RpcCaller {
  readonly #transport: Transport;
  readonly #options: CheckedOptions;
  readonly #closing = new AbortController();

  constructor(transport: Transport, options: CheckedOptions) {
    this.#transport = transport;
    this.#options = options;
  }

  /** How long a call may take that says nothing else. */
  get timeoutMs(): number {
    return this.#options.timeoutMs;
  }

  /** A request that depends on the time is given as a function, asked at each attempt. */
  async call<M extends UnaryMethod>(
    method: M,
    request: Request<M> | (() => Request<M>),
    { timeoutMs = this.#options.timeoutMs, signal }: CallOptions = {},
  ): Promise<Answer<M>> {
    const limits = this.#limits(timeoutMs, signal);
    throwIfCanceled(limits);
    const token = await currentToken(this.#options.token, limits);
    for (let attempt = 1; ; attempt++) {
      try {
        const current = typeof request === "function" ? request() : request;
        return await this.#attempt(method, current, token, limits);
      } catch (thrown) {
        const error = errorFrom(thrown, limits);
        const waitMs = backoffMs(attempt, error, Math.random());
        const lastAttempt = attempt >= this.#options.maxAttempts || waitMs >= remainingMs(limits);
        if (lastAttempt || !mayRetry(method, error)) {
          throw error;
        }
        await pause(waitMs, limits);
      }
    }
  }

  /**
   * Watches, until the stream breaks or `signal` aborts: no timeout, and no second
   * attempt. Throws a SessiondError, CANCELED where it was ended from this side.
   */
  async *watch(request: WatchRequest, signal: AbortSignal): AsyncGenerator<WatchAnswer> {
    const limits = this.#limits(this.#options.timeoutMs, signal);
    throwIfCanceled(limits);
    const token = await currentToken(this.#options.token, limits);
    try {
      const answers = await this.#transport.stream(
        SessionService.method.watchSessions,
        limits.signal,
        undefined,
        { authorization: `Bearer ${token}` },
        createAsyncIterable([request]),
      );
      yield* answers.message;
    } catch (thrown) {
      throw errorFrom(thrown, limits);
    }
  }

  /** Waits. Throws CANCELED as soon as `signal` aborts or the client closes. */
  async pause(ms: number, signal: AbortSignal): Promise<void> {
    await pause(ms, this.#limits(this.#options.timeoutMs, signal));
  }

  /** Ends all calls under way, and refuses further ones, with CANCELED. */
  close(): void {
    this.#closing.abort(CLOSED);
  }

  #limits(timeoutMs: number, signal: AbortSignal | undefined): Limits {
    const fault = timeoutFault(timeoutMs);
    if (fault !== undefined) {
      throw invalidArgument("timeoutMs", fault);
    }
    if (signal !== undefined && !(signal instanceof AbortSignal)) {
      throw invalidArgument("signal", "expected an AbortSignal");
    }
    const closing = this.#closing.signal;
    return {
      deadlineMs: performance.now() + timeoutMs,
      signal: signal === undefined ? closing : AbortSignal.any([signal, closing]),
    };
  }

  async #attempt<M extends UnaryMethod>(
    method: M,
    request: Request<M>,
    token: string,
    limits: Limits,
  ): Promise<Answer<M>> {
    // Widened, as the compiler cannot follow the link between a method's types.
    const rpc: DescMethodUnary = METHODS[method];
    const answer = await this.#transport.unary(
      rpc,
      limits.signal,
      // A grpc-timeout is a positive integer.
      Math.max(1, Math.floor(remainingMs(limits))),
      { authorization: `Bearer ${token}` },
      request,
    );
    return answer.message as Answer<M>;
  }
}

/** The access token for a call, which the caller's function may take a while to get. */
async function currentToken(token: AccessToken, limits: Limits): Promise<string> {
  if (typeof token === "string") {
    return token;
  }
  const current = await within(limits, async () => {
    try {
      return await token();
    } catch (cause) {
      throw new SessiondError("UNAUTHENTICATED", "the `token` function failed", { cause });
    }
  });
  const fault = accessTokenFault(current);
  if (fault !== undefined) {
    throw new SessiondError("UNAUTHENTICATED", `token (what the function returned): ${fault}`);
  }
  return current;
}

/** Waits for `work`, but not beyond the limits of the call. */
async function within<T>(limits: Limits, work: () => Promise<T>): Promise<T> {
  const done = new AbortController();
  const signal = AbortSignal.any([limits.signal, done.signal]);
  const expiry = pause(remainingMs(limits), { ...limits, signal }).then(() => {
    throw new SessiondError("DEADLINE_EXCEEDED", "no access token within the call's timeout");
  });
  try {
    return await Promise.race([work(), expiry]);
  } finally {
    done.abort();
  }
}

/** Waits, unless the call is canceled meanwhile. */
async function pause(ms: number, limits: Limits): Promise<void> {
  try {
    await sleep(ms, undefined, { signal: limits.signal });
  } catch (thrown) {
    throw canceled(limits) ?? thrown;
  }
}

/**
 * A failed attempt as the caller shall see it. What the server said comes first,
 * and has no cause: a call that was answered was not canceled.
 */
function errorFrom(thrown: unknown, limits: Limits): SessiondError {
  const error = errorFromTransport(thrown);
  return error.cause === undefined ? error : (canceled(limits) ?? error);
}

function throwIfCanceled(limits: Limits): void {
  const error = canceled(limits);
  if (error !== undefined) {
    throw error;
  }
}

/** The error of a call that was canceled, or undefined if it was not. */
function canceled({ signal }: Limits): SessiondError | undefined {
  if (!signal.aborted) {
    return undefined;
  }
  return signal.reason === CLOSED
    ? new SessiondError("CANCELED", "the client is closed")
    : new SessiondError("CANCELED", "the call was canceled", { cause: signal.reason });
}

function remainingMs({ deadlineMs }: Limits): number {
  return deadlineMs - performance.now();
}
