import { clone } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { type Session, SessionSchema } from "@sessiond/proto/sessiond/v1/session";
import type { SessionResult } from "@sessiond/proto/sessiond/v1/session_service";
import { malformedAnswer } from "../error.js";
import { type Attempt, Batch, type Entry, WaitingCall } from "./batch.js";
import { type BatchAnswer, batchMethodOf } from "./batch-methods.js";
import { Deadlines } from "./deadlines.js";
import { connectErrorFrom } from "./received-error.js";

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

/** A longer key is no token and no id of ours. It must not make a batch too large for the server. */
const MAX_KEY_LENGTH = 2048;

/**
 * Makes one call of many: those that start while earlier ones are under way, or at the same time.
 *
 * Each call keeps its own deadline, signal and error, and is tried again by the rules of single calls:
 * a batch is only how one attempt travels. Calls of one batch about the same key share one answer. A
 * call joins no batch that was sent before: it must not get an answer that is older than itself.
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
      lane = { authorization, group, method, waiting: [], underWay: 0, isWoken: false };
      ofCaller.set(group, lane);
    }
    return lane;
  }

  #wait(lane: Lane, key: string, attempt: Attempt): Promise<unknown> {
    return new Promise((resolve, reject) => {
      let batch = lane.waiting.at(-1);
      if (batch === undefined || batch.isFull) {
        batch = new Batch(this.#deadlines);
        lane.waiting.push(batch);
      }
      batch.add(key, new WaitingCall(attempt, resolve, reject));
      if (lane.underWay >= MAX_UNDER_WAY) {
        batch.watch();
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
    while (lane.underWay < MAX_UNDER_WAY) {
      const batch = lane.waiting.shift();
      if (batch === undefined) break;
      void this.#sendOne(lane, batch);
    }
    for (const batch of lane.waiting) batch.watch();
    if (lane.underWay === 0 && lane.waiting.length === 0) this.#forget(lane);
  }

  /** An access token is soon replaced by another, and its lanes are of no more use. */
  #forget({ authorization, group }: Lane): void {
    const ofCaller = this.#lanes.get(authorization);
    ofCaller?.delete(group);
    if (ofCaller?.size === 0) this.#lanes.delete(authorization);
  }

  /** Never rejects. */
  async #sendOne(lane: Lane, batch: Batch): Promise<void> {
    const entries = batch.openEntries();
    const [first] = entries;
    if (first === undefined) return batch.end();
    lane.underWay++;
    try {
      if (entries.length > 1) await this.#sendBatch(lane.method, batch, entries);
      else if (first.calls.length > 1) await this.#sendShared(lane.method, batch, first);
      else await sendAlone(first.calls[0] as WaitingCall, this.#send);
    } finally {
      batch.end();
      lane.underWay--;
      this.#sendWaiting(lane);
    }
  }

  async #sendBatch(method: Batchable, batch: Batch, entries: readonly Entry[]): Promise<void> {
    const [{ calls }] = entries as [Entry];
    const [{ attempt: like }] = calls as [WaitingCall];
    const keys = entries.map(({ key }) => key);
    const request = method.request(keys, like.request);
    try {
      const answer = await this.#sendForAll({ ...like, method: method.batch, request }, batch);
      const { results } = answer as BatchAnswer;
      for (const [index, entry] of entries.entries()) {
        settle(method, entry.calls, results.length === keys.length ? results[index] : undefined);
      }
    } catch (error) {
      if (isAboutBatch(error)) await this.#sendApart(method, entries);
      else for (const { calls } of entries) for (const call of calls) call.reject(error);
    }
  }

  async #sendApart(method: Batchable, entries: readonly Entry[]): Promise<void> {
    await Promise.all(
      entries.map(async (entry) => {
        const batch = new Batch(this.#deadlines);
        for (const call of entry.calls) batch.add(entry.key, call);
        if (batch.isOpen) await this.#sendShared(method, batch, entry);
        batch.end();
      }),
    );
  }

  /** Makes one call for several about the same key. */
  async #sendShared(method: Batchable, batch: Batch, { calls }: Entry): Promise<void> {
    const [{ attempt: like }] = calls as [WaitingCall];
    try {
      const { session } = (await this.#sendForAll(like, batch)) as { session?: Session };
      settle(method, calls, session && { result: { case: "session", value: session } });
    } catch (error) {
      for (const call of calls) call.reject(error);
    }
  }

  /** Makes an attempt that ends when the last of its calls does. */
  async #sendForAll(attempt: Attempt, batch: Batch): Promise<unknown> {
    const controller = new AbortController();
    batch.whenAbandoned(() => controller.abort());
    batch.watch();
    const deadlineMs = batch.lastDeadlineMs;
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
  /** What was not sent yet, the oldest first. Only the last one takes more calls. */
  readonly waiting: Batch[];
  underWay: number;
  /** Whether the waiting calls are about to be sent. */
  isWoken: boolean;
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
