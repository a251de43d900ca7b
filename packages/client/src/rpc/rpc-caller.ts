import type {
  DescMessage,
  DescMethodUnary,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import { createAsyncIterable } from "@connectrpc/connect/protocol";
import { invalidArgument, SessiondError } from "../error.js";
import {
  type AccessToken,
  accessTokenFault,
  type CallOptions,
  type CheckedOptions,
  timeoutFault,
} from "../options.js";
import type { Attempt } from "./batch.js";
import { Batches } from "./batches.js";
import { METHODS, type Methods, type UnaryMethod } from "./methods.js";
import { errorFromTransport } from "./received-error.js";
import { backoffMs, isUntaken, mayRetry } from "./retry.js";
import { sleep } from "./sleep.js";
import { NO_TRACE, type TraceHeader, traced, traceHeader } from "./tracing.js";
import type { Connection } from "./transport.js";

type Request<M extends keyof Methods> = MessageInitShape<Methods[M]["input"]>;
type Answer<M extends keyof Methods> = MessageShape<Methods[M]["output"]>;

type Header = TraceHeader & { readonly authorization: string };

/** What ends a call early. */
interface Limits {
  /** On the clock of `performance.now()`. */
  readonly deadlineMs: number;
  /** The caller's. */
  readonly signal: AbortSignal | undefined;
  /** That of the client's end. */
  readonly closing: AbortSignal;
}

/**
 * Makes calls. It adds the access token, keeps the timeout, retries where that is safe, and turns
 * every failure into a SessiondError.
 */
export class RpcCaller {
  readonly #connection: Connection;
  readonly #options: CheckedOptions;
  readonly #closing = new AbortController();
  readonly #batches: Batches | undefined;
  #hasAnswered = false;
  #last: { readonly token: string; readonly header: Header } | undefined;

  /** Hears of each call that has ended, before its caller does; without an answer if it failed. */
  onEnd:
    | (<M extends UnaryMethod>(method: M, request: Request<M>, answer?: Answer<M>) => void)
    | undefined;

  constructor(connection: Connection, options: CheckedOptions) {
    this.#connection = connection;
    this.#options = options;
    if (options.batching)
      this.#batches = new Batches((attempt, signal) => this.#send(attempt, signal));
  }

  /** The timeout of calls without one of their own. */
  get timeoutMs(): number {
    return this.#options.timeoutMs;
  }

  /** A function as `request` is asked at each attempt, for requests that depend on the time. */
  call<M extends UnaryMethod>(
    method: M,
    request: Request<M> | (() => Request<M>),
    options: CallOptions = {},
  ): Promise<Answer<M>> {
    const call = traced(METHODS[method], (trace) => this.#call(method, request, options, trace));
    // A request that is made at each attempt is of a lock, and nobody needs to hear of it.
    return this.onEnd === undefined || typeof request === "function"
      ? call
      : this.#heard(method, request, call);
  }

  async #heard<M extends UnaryMethod>(
    method: M,
    request: Request<M>,
    call: Promise<Answer<M>>,
  ): Promise<Answer<M>> {
    let answer: Answer<M> | undefined;
    try {
      answer = await call;
      return answer;
    } finally {
      this.onEnd?.(method, request, answer);
    }
  }

  async #call<M extends UnaryMethod>(
    method: M,
    request: Request<M> | (() => Request<M>),
    { timeoutMs = this.timeoutMs, signal }: CallOptions,
    trace: TraceHeader,
  ): Promise<Answer<M>> {
    const limits = this.#limits(timeoutMs, signal);
    const startMs = performance.now();
    let header: Header | undefined;
    for (let attempts = 1; ; attempts++) {
      try {
        header ??= await this.#header(limits, trace);
        const current = typeof request === "function" ? request() : request;
        const { deadlineMs } = limits;
        const attempt = { method, request: current, header, deadlineMs, signal };
        const answer = this.#batches?.attempt(attempt) ?? this.#send(attempt);
        return (await answer) as Answer<M>;
      } catch (thrown) {
        const error = this.#errorFrom(thrown, limits);
        const waitMs = backoffMs(attempts, error, Math.random());
        const mayGoOn = mayRetry(method, error) && this.#hasAttempt(attempts, error, startMs);
        if (!mayGoOn || waitMs >= remainingMs(limits)) throw error;
        await pause(waitMs, limits);
      }
    }
  }

  /**
   * Watches until the stream breaks or `signal` aborts, without a timeout and without a second
   * attempt. Throws a SessiondError, which is CANCELED if this side ended the stream. Carries the
   * trace, but makes no span, which might last for as long as the process.
   */
  async *watch(
    request: Request<"watchSessions">,
    signal: AbortSignal,
  ): AsyncGenerator<Answer<"watchSessions">> {
    const limits = this.#limits(this.timeoutMs, signal);
    try {
      const header = await this.#header(limits, traceHeader());
      const answers = await this.#connection.transport.stream(
        METHODS.watchSessions,
        eitherOf(limits),
        undefined,
        header,
        createAsyncIterable([request]),
      );
      for await (const answer of answers.message) {
        this.#hasAnswered = true;
        yield answer;
      }
    } catch (thrown) {
      throw this.#errorFrom(thrown, limits);
    }
  }

  /** Waits. Throws CANCELED as soon as `signal` aborts or the client closes. */
  async pause(ms: number, signal: AbortSignal): Promise<void> {
    await pause(ms, this.#limits(this.timeoutMs, signal));
  }

  /** Closes the connection. Current and later calls fail with CANCELED. */
  close(): void {
    this.#closing.abort();
    this.#batches?.close();
    this.#connection.close();
  }

  /** Whether there is another attempt after so many that failed, the last one with `error`. */
  #hasAttempt(attempts: number, error: SessiondError, startMs: number): boolean {
    const { maxAttempts } = this.#options;
    if (attempts < maxAttempts) return true;
    return maxAttempts > 1 && isUntaken(error, performance.now() - startMs);
  }

  #limits(timeoutMs: number, signal: AbortSignal | undefined): Limits {
    const fault = timeoutFault(timeoutMs);
    if (fault !== undefined) throw invalidArgument("timeoutMs", fault);
    if (signal !== undefined && !(signal instanceof AbortSignal)) {
      throw invalidArgument("signal", "expected an AbortSignal");
    }
    return {
      deadlineMs: performance.now() + timeoutMs,
      signal,
      closing: this.#closing.signal,
    };
  }

  /** At once if the access token never changes. */
  #header(limits: Limits, trace: TraceHeader): Header | Promise<Header> {
    const error = canceled(limits);
    if (error !== undefined) throw error;
    const { token } = this.#options;
    return typeof token === "string"
      ? this.#headerWith(token, trace)
      : currentToken(token, limits).then((current) => this.#headerWith(current, trace));
  }

  #headerWith(current: string, trace: TraceHeader): Header {
    // The transport converts frozen headers once, and most calls have the same.
    if (this.#last?.token !== current) {
      const authorization = `Bearer ${current}`;
      this.#last = { token: current, header: Object.freeze({ authorization }) };
    }
    const { header } = this.#last;
    return trace === NO_TRACE ? header : { ...trace, ...header };
  }

  /** Makes one attempt. Rejects with what the transport threw. */
  async #send(
    { method, request, header, deadlineMs, signal: own }: Attempt,
    signal = eitherOf({ signal: own, closing: this.#closing.signal }),
  ): Promise<unknown> {
    if (this.#closing.signal.aborted) throw new SessiondError("CANCELED", "the client is closed");
    // Widened, because the compiler cannot follow the link between a method's types.
    const rpc: DescMethodUnary = METHODS[method];
    // A grpc-timeout is a positive integer.
    const timeoutMs = Math.max(1, Math.floor(deadlineMs - performance.now()));
    const { transport } = this.#connection;
    const init = request as MessageInitShape<DescMessage>;
    const answer = await transport.unary(rpc, signal, timeoutMs, header, init);
    this.#hasAnswered = true;
    return answer.message;
  }

  /**
   * The error of a failed attempt. An error that the server described has no cause and wins: a
   * call that was answered was not canceled.
   */
  #errorFrom(thrown: unknown, limits: Limits): SessiondError {
    if (thrown instanceof SessiondError) return thrown;
    const error = errorFromTransport(thrown, !this.#hasAnswered);
    if (error.cause !== undefined) return canceled(limits) ?? error;
    this.#hasAnswered = true;
    return error;
  }
}

/** The access token for a call. The caller's function may take a while to get it. */
async function currentToken(token: Exclude<AccessToken, string>, limits: Limits): Promise<string> {
  const current = await within(limits, async () => {
    try {
      return await token();
    } catch (cause) {
      // An issuer's refusal is no outage. No other error says anything about this call.
      if (cause instanceof SessiondError && cause.reason === "UNAUTHENTICATED") throw cause;
      throw tokenUnavailable("failed", { cause });
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
  const signal = AbortSignal.any([eitherOf(limits), done.signal]);
  const expiry = pause(remainingMs(limits), { ...limits, signal }).then(() => {
    throw tokenUnavailable("gave no access token within the call's timeout");
  });
  try {
    return await Promise.race([work(), expiry]);
  } finally {
    done.abort();
  }
}

/** An identity provider that is down says nothing about this service's right to call. */
function tokenUnavailable(what: string, options?: ErrorOptions): SessiondError {
  return new SessiondError("TOKEN_UNAVAILABLE", `the \`token\` function ${what}`, options);
}

/** Waits, and throws CANCELED when the call is canceled meanwhile. */
async function pause(ms: number, limits: Limits): Promise<void> {
  try {
    await sleep(ms, eitherOf(limits));
  } catch (thrown) {
    throw canceled(limits) ?? thrown;
  }
}

/** The error of a call that was canceled, or undefined if it was not. */
function canceled({ signal, closing }: Limits): SessiondError | undefined {
  if (closing.aborted) return new SessiondError("CANCELED", "the client is closed");
  if (!signal?.aborted) return undefined;
  return new SessiondError("CANCELED", "the call was canceled", { cause: signal.reason });
}

/** Aborts when the caller or the client's end cancels the call. */
function eitherOf({ signal, closing }: Pick<Limits, "signal" | "closing">): AbortSignal {
  return signal === undefined ? closing : AbortSignal.any([signal, closing]);
}

function remainingMs({ deadlineMs }: Limits): number {
  return deadlineMs - performance.now();
}
