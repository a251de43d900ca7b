import type { Clocks } from "../near-cache/freshness.js";
import { keyOf, type NearCache } from "../near-cache/near-cache.js";
import type { Session } from "../sessions/session.js";
import type { WatchMessage } from "../sessions/watch.js";
import { SimulatedServer } from "./simulated-server.js";

/** What happens next in a simulated world. All times in ms. */
export type Action =
  | { readonly kind: "verify"; readonly token: number; readonly out: number; readonly back: number }
  | { readonly kind: "revoke" | "update" | "move in"; readonly session: number }
  | { readonly kind: "rotate"; readonly session: number; readonly graceMs: number }
  | { readonly kind: "stall" | "stop"; readonly ms: number }
  | { readonly kind: "delay"; readonly ms: number }
  | { readonly kind: "hints"; readonly work: boolean }
  | { readonly kind: "swallow" | "cut" }
  | { readonly kind: "fail over"; readonly apartMs: number }
  | { readonly kind: "server clock" | "wall clock"; readonly stepMs: number };

/** An action, and how long after the one before. */
export interface Step {
  readonly afterMs: number;
  readonly action: Action;
}

/** What a cache answers to a verify without asking the server. Undefined: it asks. */
export type Lookup = (cache: NearCache, key: string) => Session | "invalid" | undefined;

/** The cache of a world, and what is told of the server's answers. */
export interface Subject {
  readonly cache: NearCache;
  readonly lookup: Lookup;
  readonly onInvalid?: (key: string) => void;
}

/** As the server: a checkpoint so often, and as the SDK: so much silence is the end. */
const CHECKPOINT_MS = 500;
const SILENCE_MS = 5_000;
const REOPEN_MS = 50;
/** How long after a hint the server sends an event. */
const HINT_MS = 2;

interface SimulatedStream {
  /** How many events of the log the server has sent. */
  sent: number;
  source: number;
  isOpen: boolean;
  isSwallowed: boolean;
  lastArrivalMs: number;
  heardMs: number;
}

/**
 * A server, a network and a process with a near cache, with clocks of their own. Nothing in it waits:
 * a minute takes a millisecond. Throws if the cache gives out what it must not.
 */
export class NearCacheWorld {
  hits = 0;
  /** The true time, which nobody in the world knows. */
  #nowMs = 0;
  #wallApartMs = 0;
  readonly #server = new SimulatedServer();
  readonly #maxStaleMs: number;
  readonly #subject: Subject;
  /** Things to happen, by their time and then in order. */
  #agenda: { readonly atMs: number; readonly run: () => void }[] = [];
  #hintsWork = true;
  #stream: SimulatedStream | undefined;
  #delayMs = 1;
  #stalledUntilMs = 0;
  #stoppedUntilMs = 0;

  constructor(maxStaleMs: number, subjectOf: (clocks: Clocks) => Subject) {
    this.#maxStaleMs = maxStaleMs;
    this.#subject = subjectOf({
      monotonicMs: () => 7_000_000 + this.#nowMs,
      wallMs: () => 1.7e12 + this.#nowMs + this.#wallApartMs,
    });
    for (let i = 0; i < 2; i++) this.#server.moveIn(i, 0);
    this.#open("");
    this.#every(CHECKPOINT_MS, () => this.#sendCheckpoint());
    this.#every(CHECKPOINT_MS, () => this.#noticeSilence());
  }

  run(steps: readonly Step[]): void {
    for (const { afterMs, action } of steps) {
      this.#advance(this.#nowMs + afterMs);
      this.#act(action);
    }
    this.#advance(this.#nowMs + 2 * this.#maxStaleMs);
    for (let token = 0; token < 20; token++) this.#verify(token, 1, 1);
  }

  #act(action: Action): void {
    const nowMs = this.#nowMs;
    const stream = this.#stream;
    switch (action.kind) {
      case "verify":
        this.#verify(action.token, action.out, action.back);
        break;
      case "revoke":
        this.#server.revoke(action.session, nowMs);
        break;
      case "update":
        this.#server.update(action.session, nowMs);
        break;
      case "move in":
        this.#server.moveIn(action.session, nowMs);
        break;
      case "rotate":
        this.#server.rotate(action.session, action.graceMs, nowMs);
        break;
      case "stall":
        this.#stalledUntilMs = nowMs + action.ms;
        break;
      case "stop":
        this.#stoppedUntilMs = Math.max(this.#stoppedUntilMs, nowMs + action.ms);
        break;
      case "delay":
        this.#delayMs = action.ms;
        break;
      case "hints":
        this.#hintsWork = action.work;
        break;
      case "swallow":
        if (stream !== undefined) stream.isSwallowed = true;
        break;
      case "cut":
        if (stream !== undefined) this.#lose(stream);
        break;
      case "fail over":
        this.#server.failOver(action.apartMs);
        if (stream?.isOpen) this.#at(nowMs + HINT_MS, () => this.#sendReset(stream));
        break;
      case "server clock":
        this.#server.jump(action.stepMs);
        break;
      case "wall clock":
        this.#wallApartMs += action.stepMs;
        break;
    }
    if (this.#hintsWork && stream !== undefined) {
      this.#at(nowMs + HINT_MS, () => this.#sendNews(stream, false));
    }
  }

  // The process with the cache.

  #verify(token: number, outMs: number, backMs: number): void {
    // A process that is stopped does it when it goes on, before it reads from the network.
    this.#soonest(this.#nowMs, () => {
      const { cache, lookup, onInvalid } = this.#subject;
      const key = keyOf(`token-${token}`);
      const found = lookup(cache, key);
      if (found !== undefined) {
        this.#check(found, token);
        return;
      }
      const call = cache.begin();
      this.#at(this.#nowMs + outMs, () => {
        const answer = this.#server.verify(token, this.#nowMs);
        this.#later(this.#nowMs + backMs, () => {
          if (answer === undefined) {
            cache.forget({ key });
            onInvalid?.(key);
          } else {
            cache.keep(key, answer, call, true);
          }
          cache.end();
        });
      });
    });
  }

  #open(resumeToken: string): void {
    this.#subject.cache.streamOpens();
    const stream: SimulatedStream = {
      sent: this.#server.log.length,
      source: this.#server.source,
      isOpen: true,
      isSwallowed: false,
      lastArrivalMs: 0,
      heardMs: this.#nowMs,
    };
    this.#stream = stream;
    this.#at(Math.max(this.#nowMs + this.#delayMs, this.#stalledUntilMs), () => {
      const [source, sent] = resumeToken.split(" ").map(Number);
      stream.source = this.#server.source;
      stream.sent = source === this.#server.source ? (sent ?? 0) : this.#server.log.length;
      if (resumeToken !== "" && source !== this.#server.source) this.#sendReset(stream);
      this.#sendNews(stream, true);
    });
  }

  #receive(stream: SimulatedStream, message: WatchMessage): void {
    if (!stream.isOpen) return;
    stream.heardMs = this.#nowMs;
    const next = this.#subject.cache.receive(message);
    if (next === "read on") return;
    if (next === "restart") {
      this.#lose(stream);
    } else {
      stream.isOpen = false;
      this.#later(this.#nowMs + REOPEN_MS, () => this.#open(message.resumeToken));
    }
  }

  #lose(stream: SimulatedStream): void {
    if (!stream.isOpen) return;
    stream.isOpen = false;
    this.#soonest(this.#nowMs, () => {
      this.#subject.cache.streamLost();
      this.#later(this.#nowMs + REOPEN_MS, () => this.#open(""));
    });
  }

  #noticeSilence(): void {
    const stream = this.#stream;
    if (stream !== undefined && this.#nowMs - stream.heardMs > SILENCE_MS) this.#lose(stream);
  }

  // The server.

  #sendCheckpoint(): void {
    if (this.#stream?.lastArrivalMs) this.#sendNews(this.#stream, true);
  }

  #sendReset(stream: SimulatedStream): void {
    stream.source = this.#server.source;
    stream.sent = this.#server.log.length;
    this.#deliver(stream, { type: "reset", reason: "lost", resumeToken: this.#tokenOf(stream) });
  }

  #sendNews(stream: SimulatedStream, withCheckpoint: boolean): void {
    if (!stream.isOpen || stream.source !== this.#server.source) return;
    const events = this.#server.log.slice(stream.sent);
    stream.sent = this.#server.log.length;
    const resumeToken = this.#tokenOf(stream);
    if (events.length > 0) this.#deliver(stream, { type: "events", events, resumeToken });
    const time = new Date(this.#server.timeMs(this.#nowMs));
    if (withCheckpoint) this.#deliver(stream, { type: "checkpoint", time, resumeToken });
  }

  #tokenOf({ source, sent }: SimulatedStream): string {
    return `${source} ${sent}`;
  }

  // The network and the time.

  #deliver(stream: SimulatedStream, message: WatchMessage): void {
    if (stream.isSwallowed) return;
    const arrivalMs = Math.max(
      this.#nowMs + this.#delayMs,
      this.#stalledUntilMs,
      stream.lastArrivalMs,
    );
    stream.lastArrivalMs = arrivalMs;
    this.#later(arrivalMs, () => this.#receive(stream, message));
  }

  /** In the process: not while it is stopped. What came meanwhile comes in order afterwards. */
  #later(atMs: number, run: () => void): void {
    this.#at(atMs, () => {
      if (this.#nowMs < this.#stoppedUntilMs) this.#later(this.#stoppedUntilMs, run);
      else run();
    });
  }

  /** In the process, before everything else that waits for it to go on. */
  #soonest(atMs: number, run: () => void): void {
    if (atMs >= this.#stoppedUntilMs) run();
    else this.#agenda.unshift({ atMs: this.#stoppedUntilMs, run });
  }

  #every(ms: number, run: () => void): void {
    this.#at(this.#nowMs + ms, () => {
      run();
      this.#every(ms, run);
    });
  }

  #at(atMs: number, run: () => void): void {
    this.#agenda.push({ atMs, run });
  }

  #advance(toMs: number): void {
    for (;;) {
      let next = -1;
      for (const [index, { atMs }] of this.#agenda.entries()) {
        const best = this.#agenda[next]?.atMs ?? toMs + 1;
        if (atMs < best) next = index;
      }
      const due = next < 0 ? undefined : this.#agenda.splice(next, 1)[0];
      if (due === undefined) break;
      this.#nowMs = Math.max(this.#nowMs, due.atMs);
      due.run();
    }
    this.#nowMs = toMs;
  }

  // The promises.

  #check(found: Session | "invalid", token: number): void {
    if (found === "invalid") {
      if (this.#server.verify(token, this.#nowMs) === undefined) return;
      throw new Error("an active session was refused");
    }
    this.hits++;
    const sinceMs = this.#server.wrongSinceMs(token, found.etag, this.#nowMs);
    if (sinceMs === undefined) return;
    // When the server's clock jumps, deadlines do, too, and nothing tells of it.
    if (sinceMs === Number.NEGATIVE_INFINITY && this.#server.hasJumped) return;
    const staleMs = this.#nowMs - sinceMs;
    if (staleMs > this.#maxStaleMs) throw new Error(`a session was given out ${staleMs} ms late`);
  }
}
