import { createContextKey } from "@connectrpc/connect";
import type { RateLimitWindow, SHED_DETAILS } from "@sessiond/core";
import type { Caller } from "../auth/caller.js";
import { AdaptiveLimit } from "./adaptive-limit.js";
import { type CallerCalls, Callers } from "./callers.js";
import { sampleLoopDelay } from "./loop-delay.js";
import { TREATMENTS, type Treatment } from "./priorities.js";
import { RefusalPace } from "./refusal-pace.js";
import { RetryDelay } from "./retry-delay.js";

/** The bounds on calls. */
export interface AdmissionOptions {
  /** How many calls may be under way in all. The adaptive limit is never higher. */
  readonly maxInFlight: number;
  /** How many may be under way however late the event loop is: 100 by default. */
  readonly minInFlight?: number;
  /** How many of them may be of one caller. By default only its fair share bounds it. */
  readonly maxPerCaller?: number | undefined;
  /** What each caller may call in a time. */
  readonly quota?: readonly RateLimitWindow[];
}

/** Without so many calls under way no delay is their fault. */
const MIN_IN_FLIGHT = 100;

/** A call that may not be served now. */
export class Refused {
  readonly treatment: Treatment;
  readonly why: (typeof SHED_DETAILS)[number] & ("in_flight" | "caller_in_flight" | "caller_quota");
  /** When the caller may try again. */
  readonly retryAfterMs: number;

  constructor(treatment: Treatment, why: Refused["why"], retryAfterMs: number) {
    this.treatment = treatment;
    this.why = why;
    this.retryAfterMs = retryAfterMs;
  }
}

/** The place of a call. Undefined if it needs none. */
export const admittedKey = createContextKey<Admitted | undefined>(undefined, {
  description: "the call's place among those under way",
});

/** The place of a call that is served, until its handler counts. */
export class Admitted {
  readonly #admission: Admission;
  readonly #calls: CallerCalls;
  /** The calls of its caller. Undefined if that is not known before its token is verified. */
  readonly knownCalls: CallerCalls | undefined;
  #hasEnded = false;

  constructor(admission: Admission, calls: CallerCalls, knownCalls: CallerCalls | undefined) {
    this.#admission = admission;
    this.#calls = calls;
    this.knownCalls = knownCalls;
    admission.open++;
    calls.open++;
  }

  /** The call has a handler or an answer, was given up, or does not come. Idempotent. */
  end(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#admission.open--;
    this.#calls.open--;
  }
}

/**
 * Decides about each call before anything is read of it: served now, or refused now. Shared by both
 * ports. Why it is done so stands in docs/adr/0019-shedding-at-the-door.md.
 */
export class Admission implements Disposable {
  readonly #limit: AdaptiveLimit;
  readonly #maxPerCaller: number;
  readonly #callers: Callers;
  readonly #retryDelay = new RetryDelay();
  readonly #sampling: Disposable;
  /** Sends the refusals of both ports. */
  readonly pace = new RefusalPace();
  /** Requests that no handler has yet. Only `Admitted` changes it. */
  open = 0;
  #working = 0;

  constructor({
    minInFlight = MIN_IN_FLIGHT,
    maxInFlight,
    maxPerCaller = maxInFlight,
    quota = [],
  }: AdmissionOptions) {
    this.#limit = new AdaptiveLimit(minInFlight, maxInFlight);
    this.#maxPerCaller = maxPerCaller;
    this.#callers = new Callers(quota);
    this.#sampling = sampleLoopDelay((delayMs, nowMs) =>
      this.#limit.observe(delayMs, this.inFlight, nowMs),
    );
  }

  /** How many calls are under way. */
  get inFlight(): number {
    return this.open + this.#working;
  }

  /** How many calls may be under way now. */
  get limit(): number {
    return this.#limit.value;
  }

  /**
   * Whether a request for a path may be served. Undefined for what is no method of the contract, and
   * for what has a bound of its own once it waits.
   */
  enter(path: string, authorization: string): Admitted | Refused | undefined {
    const treatment = TREATMENTS.get(path);
    if (treatment === undefined) return undefined;
    const known = this.#callers.ofHeader(authorization);
    const calls = known ?? this.#callers.strangers;
    const { share } = treatment;
    if (share !== Number.POSITIVE_INFINITY) {
      const free = Math.max(1, this.#limit.value * share) - this.inFlight;
      if (free < 1) return this.#refuse(treatment, "in_flight");
      // VerifySession is shed last. A caller that floods it must still leave room for calls that are
      // shed earlier.
      const most = Math.min(this.#maxPerCaller, free);
      if (calls.inFlight >= most) return this.#refuse(treatment, "caller_in_flight");
      const waitMs = calls.quota?.take(performance.now()) ?? 0;
      if (waitMs > 0) return this.#refuse(treatment, "caller_quota", waitMs);
    }
    return treatment.waits ? undefined : new Admitted(this, calls, known);
  }

  /** Learns whose `authorization` header this is. */
  learn(authorization: string, caller: Caller): CallerCalls {
    return this.#callers.learn(authorization, caller);
  }

  /** Counts a call's work until it settles: it may outlive a request that was given up. */
  work(calls: CallerCalls, answer: Promise<unknown>): void {
    this.#working++;
    calls.working++;
    const done = () => {
      this.#working--;
      calls.working--;
    };
    answer.then(done, done);
  }

  [Symbol.dispose](): void {
    this.#sampling[Symbol.dispose]();
    this.pace[Symbol.dispose]();
  }

  #refuse(treatment: Treatment, why: Refused["why"], leastMs = 0): Refused {
    const retryAfterMs = Math.max(leastMs, this.#retryDelay.next(performance.now()));
    return new Refused(treatment, why, retryAfterMs);
  }
}
