import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { explainViolation } from "./explain-violation.js";
import { checkLinearizability } from "./linearizability.js";
import { type RecordedStore, RecordedUser } from "./recorded-user.js";
import { SeededRandom } from "./seeded-random.js";
import { nextCall, type Workload } from "./workload.js";

/** Something that goes wrong with a store, or with the way to it. */
export interface Fault {
  readonly name: string;
  /** Makes it go wrong for about this long, and puts it right before it returns. */
  inflict(durationMs: number): Promise<void>;
}

/** Stores, and what can go wrong with them. */
export interface FaultyStores extends AsyncDisposable {
  /** One for each server; all on the same data. */
  readonly stores: readonly RecordedStore[];
  /** Of each list one goes wrong at a time; those of several lists come together. */
  readonly faults: readonly (readonly Fault[])[];
}

/** What a run is made of. */
export interface FaultRunOptions extends Pick<FaultyStores, "stores" | "faults"> {
  /**
   * What is called and what goes wrong follows from it. When calls meet does not: a
   * run with the same seed tries the same things, at other moments.
   */
  readonly seed: number;
  readonly durationMs: number;
  /** Told from time to time how far the run is. */
  readonly log?: (line: string) => void;
  /** Whether `log` is told of each fault too. No by default. */
  readonly logFaults?: boolean;
}

/** What a run saw. */
export interface FaultRunReport {
  readonly seed: number;
  readonly users: number;
  readonly calls: number;
  /** How many changes had an unknown outcome. */
  readonly unknownChanges: number;
  /** How often each fault was inflicted. */
  readonly faults: Readonly<Record<string, number>>;
  /** How many histories were too much to decide. */
  readonly undecided: number;
  /** What cannot be explained, in words; the run stops at the first. */
  readonly violation?: string;
}

const USERS_AT_ONCE = 6;
/** Of each user, on each server. */
const CLIENTS_PER_STORE = 2;
/** A user's history ends with this many calls, or unknown changes, so that it can be checked. */
const MAX_ENTRIES = 70;
const MAX_UNKNOWN_CHANGES = 8;
/** How long clients think before a call at most; more of them then overlap in new ways. */
const MAX_PAUSE_MS = 4;
const MAX_FAULT_MS = 1_600;
const MAX_CALM_MS = 800;
/** How long a client that got no answer waits for the store to be back. */
const RECOVERY_TIME_MS = 3_000;
const PROGRESS_INTERVAL_MS = 30_000;

/** Calls stores from many clients while faults are inflicted, and checks what they answer. */
export function runUnderFaults(options: FaultRunOptions): Promise<FaultRunReport> {
  return new FaultRun(options).run();
}

class FaultRun {
  readonly #options: FaultRunOptions;
  readonly #random: SeededRandom;
  readonly #deadlineMs: number;
  /** In the ids of users, so that runs on the same store do not meet. */
  readonly #runId = performance.timeOrigin.toString(36);
  readonly #faults: Record<string, number> = {};
  #users = 0;
  #calls = 0;
  #unknownChanges = 0;
  #undecided = 0;
  #violation: string | undefined;

  constructor(options: FaultRunOptions) {
    this.#options = options;
    this.#random = new SeededRandom(options.seed);
    this.#deadlineMs = performance.now() + options.durationMs;
  }

  async run(): Promise<FaultRunReport> {
    const progress = setInterval(() => this.#log(this.#progress()), PROGRESS_INTERVAL_MS);
    const users = Array.from({ length: USERS_AT_ONCE }, () => this.#liveUsers(this.#random.fork()));
    try {
      const faults = this.#options.faults.map((list) =>
        this.#inflictFaults(list, this.#random.fork()),
      );
      await Promise.all([...faults, ...users]);
    } finally {
      clearInterval(progress);
    }
    return {
      seed: this.#options.seed,
      users: this.#users,
      calls: this.#calls,
      unknownChanges: this.#unknownChanges,
      faults: this.#faults,
      undecided: this.#undecided,
      ...(this.#violation !== undefined && { violation: this.#violation }),
    };
  }

  get #isOver(): boolean {
    return this.#violation !== undefined || performance.now() >= this.#deadlineMs;
  }

  async #inflictFaults(faults: readonly Fault[], random: SeededRandom): Promise<void> {
    while (!this.#isOver) {
      await sleep(random.between(50, MAX_CALM_MS));
      const fault = random.pick(faults);
      if (fault === undefined || this.#isOver) continue;
      const durationMs = random.between(20, MAX_FAULT_MS);
      if (this.#options.logFaults) this.#log(`${fault.name}, ${durationMs} ms`);
      this.#faults[fault.name] = (this.#faults[fault.name] ?? 0) + 1;
      await fault.inflict(durationMs);
    }
  }

  /** One user after the other. */
  async #liveUsers(random: SeededRandom): Promise<void> {
    while (!this.#isOver) {
      this.#users++;
      const user = new RecordedUser(`user-${this.#runId}-${this.#options.seed}-${this.#users}`);
      await this.#live(user, random);
      this.#calls += user.length;
      this.#unknownChanges += user.unknownChanges;
      this.#check(user);
    }
  }

  async #live(user: RecordedUser, random: SeededRandom): Promise<void> {
    const workload: Workload = {
      maxSessions: random.between(1, 4),
      policy: random.chance(0.7) ? "evict_oldest" : "reject",
    };
    const clients = this.#options.stores.flatMap((store, server) =>
      Array.from({ length: CLIENTS_PER_STORE }, (_, client) => ({
        store,
        name: `server ${server + 1}, client ${client + 1}`,
        random: random.fork(),
      })),
    );
    await Promise.all(
      clients.map((client) => this.#act(client.name, client.store, user, workload, client.random)),
    );
    // What is there in the end shows what became of the changes before.
    for (const [i, store] of this.#options.stores.entries()) {
      const name = `server ${i + 1}, at the end`;
      await user.call(name, store, { kind: "list", showRevoked: true });
      await user.call(name, store, { kind: "getMany", showRevoked: false });
      await user.call(name, store, { kind: "count" });
    }
  }

  async #act(
    name: string,
    store: RecordedStore,
    user: RecordedUser,
    workload: Workload,
    random: SeededRandom,
  ): Promise<void> {
    while (!this.#isOver) {
      if (user.length >= MAX_ENTRIES || user.unknownChanges >= MAX_UNKNOWN_CHANGES) return;
      await sleep(random.next() * MAX_PAUSE_MS);
      const answered = await user.call(name, store, nextCall(random, user, workload));
      // Some go on at once, as impatient callers do.
      if (!answered && random.chance(0.8)) await this.#recovered(store);
    }
  }

  async #recovered(store: RecordedStore): Promise<void> {
    const deadlineMs = performance.now() + RECOVERY_TIME_MS;
    while (performance.now() < deadlineMs) {
      const isBack = await store.check().then(
        () => true,
        () => false,
      );
      if (isBack) return;
      await sleep(20);
    }
  }

  #check(user: RecordedUser): void {
    const history = user.history();
    const { kind } = checkLinearizability(history);
    if (kind === "undecided") this.#undecided++;
    if (kind !== "violation") return;
    this.#violation ??= `${explainViolation(history)}\nSeed: ${this.#options.seed}`;
  }

  #progress(): string {
    return `${this.#users} users, ${this.#calls} calls, ${this.#unknownChanges} of unknown outcome`;
  }

  #log(line: string): void {
    this.#options.log?.(line);
  }
}
