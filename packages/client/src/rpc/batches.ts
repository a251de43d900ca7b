import { clone } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { type Session, SessionSchema } from "@sessiond/proto/sessiond/v1/session";
import type { SessionResult } from "@sessiond/proto/sessiond/v1/session_service";
import { malformedAnswer } from "../error.js";
import { type BatchAnswer, batchMethodOf } from "./batch-methods.js";
import { Deadlines, type Perishable } from "./deadlines.js";
import type { UnaryMethod } from "./methods.js";
import { connectErrorFrom } from "./received-error.js";

/** One attempt of one call. */
export interface Attempt {
  readonly method: UnaryMethod;
  readonly request: object;
  readonly header: Readonly<Record<string, string>> & { readonly authorization: string };
  /** On the clock of `performance.now()`. */
  readonly deadlineMs: number;
  /** The caller's. */
  readonly signal: AbortSignal | undefined;
}

/**
 * Makes an attempt by itself. Rejects with what the transport threw. `signal` replaces those of the
 * caller and of the client's end.
 */
export type Send = (attempt: Attempt, signal?: AbortSignal) => Promise<unknown>;

/**
 * The most calls or batches of one kind under way. Further calls wait until one returns. Four keep the
 * server and the network busy.
 */
const MAX_UNDER_WAY = 4;

/**
 * The most calls in a batch. The server permits 1000. A tenth costs a call hardly more, and its
 * first call does not have to wait for the last of a thousand.
 */
const MAX_BATCH = 100;

/** A longer key is no token and no id of ours. It must not make a batch too large for the server. */
const MAX_KEY_LENGTH = 2048;

/**
 * Makes one call of many: those that start while earlier ones are under way, or at the same time.
 *
 * Each call keeps its own deadline, signal and error, and is tried again by the rules of single calls:
 * a batch is only how one attempt travels. Calls about the same key share one answer, if none of
 * them has been sent yet: a call must not get an answer that is older than itself.
 */
export class Batches {
  readonly #send: Send;
  readonly #deadlines = new Deadlines();
  /** By access token, because a batch has only one, and by group. */
  readonly #lanes = new Map<string, Map<string, Lane>>();
  readonly #underWay = new Set<AbortController>();

  constructor(send: Send) {
    this.#send = send;
  }

  /** Makes an attempt, alone or in a batch. Rejects with what the transport threw. */
  attempt(attempt: Attempt): Promise<unknown> {
    const method = batchMethodOf(attempt.method);
    const group = method?.group(attempt.request);
    if (method === undefined || group === undefined) return this.#send(attempt);
    const key = method.key(attempt.request);
    if (key.length > MAX_KEY_LENGTH) return this.#send(attempt);
    const { authorization } = attempt.header;
    return this.#wait(this.#laneOf({ authorization, group, method }), key, attempt);
  }

  /** Ends all batches. Calls that wait fail when they are sent. */
  close(): void {
    for (const controller of this.#underWay) controller.abort();
  }

  #laneOf({
    authorization,
    group,
    method,
  }: Pick<Lane, "authorization" | "group" | "method">): Lane {
    let ofCaller = this.#lanes.get(authorization);
    if (ofCaller === undefined) {
      ofCaller = new Map();
      this.#lanes.set(authorization, ofCaller);
    }
    let lane = ofCaller.get(group);
    if (lane === undefined) {
      lane = { authorization, group, method, waiting: new Map(), underWay: 0, isWoken: false };
      ofCaller.set(group, lane);
    }
    return lane;
  }

  #wait(lane: Lane, key: string, attempt: Attempt): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const call = new WaitingCall(attempt, this.#deadlines, resolve, reject);
      const others = lane.waiting.get(key);
      if (others === undefined) lane.waiting.set(key, [call]);
      else others.push(call);
      if (lane.underWay >= MAX_UNDER_WAY) {
        call.watch();
      } else if (!lane.isWoken) {
        lane.isWoken = true;
        // After all calls that start in this turn, and before anything else.
        process.nextTick(() => {
          lane.isWoken = false;
          this.#sendWaiting(lane);
        });
      }
    });
  }

  #sendWaiting(lane: Lane): void {
    while (lane.underWay < MAX_UNDER_WAY && lane.waiting.size > 0) {
      const entries: Entry[] = [];
      for (const [key, calls] of lane.waiting) {
        lane.waiting.delete(key);
        const open = calls.filter(({ isOpen }) => isOpen);
        if (open.length > 0) entries.push({ key, calls: open });
        if (entries.length === MAX_BATCH) break;
      }
      if (entries.length > 0) void this.#sendEntries(lane, entries);
    }
    for (const calls of lane.waiting.values()) for (const call of calls) call.watch();
    if (lane.underWay === 0 && lane.waiting.size === 0) this.#forget(lane);
  }

  /** An access token is soon replaced by another, and its lanes are of no more use. */
  #forget({ authorization, group }: Lane): void {
    const ofCaller = this.#lanes.get(authorization);
    ofCaller?.delete(group);
    if (ofCaller?.size === 0) this.#lanes.delete(authorization);
  }

  /** Never rejects. */
  async #sendEntries(lane: Lane, entries: readonly Entry[]): Promise<void> {
    lane.underWay++;
    try {
      const [first] = entries as [Entry];
      if (entries.length > 1) await this.#sendBatch(lane.method, entries);
      else if (first.calls.length > 1) await this.#sendShared(lane.method, first);
      else await sendAlone(first.calls[0] as WaitingCall, this.#send);
    } finally {
      lane.underWay--;
      this.#sendWaiting(lane);
    }
  }

  async #sendBatch(method: Batchable, entries: readonly Entry[]): Promise<void> {
    const calls = entries.flatMap((entry) => entry.calls);
    const [{ attempt: like }] = calls as [WaitingCall];
    const keys = entries.map(({ key }) => key);
    const request = method.request(keys, like.request);
    try {
      const answer = await this.#sendForAll({ ...like, method: method.batch, request }, calls);
      const { results } = answer as BatchAnswer;
      for (const [index, entry] of entries.entries()) {
        settle(method, entry.calls, results.length === keys.length ? results[index] : undefined);
      }
    } catch (error) {
      if (isAboutBatch(error)) {
        await Promise.all(entries.map((entry) => this.#sendShared(method, entry)));
      } else {
        for (const call of calls) call.reject(error);
      }
    }
  }

  /** Makes one call for several about the same key. */
  async #sendShared(method: Batchable, { calls }: Entry): Promise<void> {
    const [{ attempt: like }] = calls as [WaitingCall];
    if (!calls.some(({ isOpen }) => isOpen)) return;
    try {
      const { session } = (await this.#sendForAll(like, calls)) as { session?: Session };
      settle(method, calls, session && { result: { case: "session", value: session } });
    } catch (error) {
      for (const call of calls) call.reject(error);
    }
  }

  /** Makes an attempt that ends when the last of its calls does. */
  async #sendForAll(attempt: Attempt, calls: readonly WaitingCall[]): Promise<unknown> {
    const controller = new AbortController();
    const open = calls.filter(({ isOpen }) => isOpen);
    let left = open.length;
    for (const call of open) {
      call.onEnd = () => {
        if (--left === 0) controller.abort();
      };
    }
    // A signal that has aborted ends its call here, so all calls must be counted before.
    for (const call of open) call.watch();
    const deadlineMs = Math.max(...open.map((call) => call.deadlineMs));
    // Not AbortSignal.any, which registers each signal with the long-lived one of the client.
    this.#underWay.add(controller);
    try {
      return await this.#send({ ...attempt, deadlineMs }, controller.signal);
    } finally {
      this.#underWay.delete(controller);
    }
  }
}

type Batchable = NonNullable<ReturnType<typeof batchMethodOf>>;

/** Calls that a batch can have together. */
interface Lane {
  readonly authorization: string;
  readonly group: string;
  readonly method: Batchable;
  /** The calls that were not sent yet, by what they ask about. */
  readonly waiting: Map<string, WaitingCall[]>;
  underWay: number;
  /** Whether the waiting calls are about to be sent. */
  isWoken: boolean;
}

/** All calls of a batch about one key. */
interface Entry {
  readonly key: string;
  readonly calls: readonly WaitingCall[];
}

/** A call that waits for an answer together with others. */
class WaitingCall implements Perishable, EventListenerObject {
  readonly attempt: Attempt;
  isOpen = true;
  /** Called when the call ends before its answer. */
  onEnd: (() => void) | undefined;
  readonly #deadlines: Deadlines;
  readonly #resolve: (answer: unknown) => void;
  readonly #reject: (error: unknown) => void;
  #isWatched = false;

  constructor(
    attempt: Attempt,
    deadlines: Deadlines,
    resolve: (answer: unknown) => void,
    reject: (error: unknown) => void,
  ) {
    this.attempt = attempt;
    this.#deadlines = deadlines;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  get deadlineMs(): number {
    return this.attempt.deadlineMs;
  }

  /** Ends the call at its deadline and by its signal. A call alone leaves that to the transport. */
  watch(): void {
    if (this.#isWatched || !this.isOpen) return;
    this.#isWatched = true;
    this.#deadlines.add(this);
    const { signal } = this.attempt;
    if (signal?.aborted) this.handleEvent();
    else signal?.addEventListener("abort", this);
  }

  expire(): void {
    this.#endEarly(new ConnectError("the operation timed out", Code.DeadlineExceeded));
  }

  resolve(answer: unknown): void {
    this.#end();
    this.#resolve(answer);
  }

  reject(error: unknown): void {
    this.#end();
    this.#reject(error);
  }

  /** The caller's signal has aborted. */
  handleEvent(): void {
    this.#endEarly(ConnectError.from(this.attempt.signal?.reason, Code.Canceled));
  }

  #endEarly(error: ConnectError): void {
    if (!this.isOpen) return;
    this.reject(error);
    this.onEnd?.();
  }

  #end(): void {
    this.isOpen = false;
    if (!this.#isWatched) return;
    this.#deadlines.delete(this);
    this.attempt.signal?.removeEventListener("abort", this);
  }
}

async function sendAlone(call: WaitingCall, send: Send): Promise<void> {
  try {
    call.resolve(await send(call.attempt));
  } catch (error) {
    call.reject(error);
  }
}

/** Gives all calls about one key their answer, each one of its own. */
function settle(
  method: Batchable,
  calls: readonly WaitingCall[],
  answer: Pick<SessionResult, "result"> | undefined,
): void {
  let isShared = false;
  for (const call of calls) {
    if (!call.isOpen) continue;
    const { result } = answer ?? {};
    if (result?.case === "session") {
      const session = isShared ? clone(SessionSchema, result.value) : result.value;
      isShared = true;
      call.resolve(method.answer(session));
    } else if (result?.case === "error") {
      call.reject(connectErrorFrom(result.value));
    } else {
      call.reject(malformedAnswer("not one result for each session"));
    }
  }
}

/**
 * Whether a batch failed because it is one, or because of one of its calls: then each is made alone.
 * An overloaded server says so in the details of its error.
 */
function isAboutBatch(error: unknown): boolean {
  if (!(error instanceof ConnectError)) return false;
  switch (error.code) {
    case Code.InvalidArgument:
    case Code.Unimplemented:
      return true;
    case Code.ResourceExhausted:
      return error.details.length === 0;
    default:
      return false;
  }
}
