import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { type ErrorReason, SessiondError, storeUnavailable } from "../../errors.js";
import { forkTypeScript } from "../processes/spawn-typescript.js";
import type { RecordedStore } from "./recorded-user.js";

/** A call for the process to make. */
export interface StoreRequest {
  readonly id: number;
  readonly method: keyof RecordedStore | "reopen";
  readonly args: readonly unknown[];
}

/** What became of a call. */
export interface StoreReply {
  readonly id: number;
  readonly value?: unknown;
  readonly failure?: {
    readonly message: string;
    readonly reason: ErrorReason | undefined;
  };
}

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

const METHODS = [
  "create",
  "createOnce",
  "get",
  "getMany",
  "touch",
  "replaceRecord",
  "reseal",
  "rotateToken",
  "rotateTokenOnce",
  "reportReuse",
  "revoke",
  "revokeUser",
  "list",
  "count",
  "check",
] as const satisfies readonly (keyof RecordedStore)[];

/** After this, what a frozen process will do is not waited for. */
const CALL_TIMEOUT_MS = 1_000;
const START_TIMEOUT_MS = 20_000;

/**
 * An SQLite store in a process of its own, as another server on the same machine
 * has one. It can be frozen and killed; calls that it does not answer fail with
 * STORE_UNAVAILABLE.
 */
export class SqliteProcess implements AsyncDisposable {
  readonly store: RecordedStore;
  readonly #path: string;
  readonly #waiting = new Map<number, Waiting>();
  #child: ChildProcess | undefined;
  #lastId = 0;

  private constructor(path: string) {
    this.#path = path;
    const calls = METHODS.map((method) => [
      method,
      (...args: readonly unknown[]) => this.#call(method, args),
    ]);
    // Each method sends its arguments as they are, so they have the types of the store's.
    this.store = Object.fromEntries(calls) as RecordedStore;
  }

  /** Starts the process on a file. */
  static async start(path: string): Promise<SqliteProcess> {
    const started = new SqliteProcess(path);
    await started.#start();
    return started;
  }

  /** Kills the process as a crash would, and starts another. */
  async restart(): Promise<void> {
    await this.#kill();
    await this.#start();
  }

  /** Closes the file and opens it again. */
  async reopen(): Promise<void> {
    await this.#call("reopen", []);
  }

  /** Stops the process where it stands, a transaction or not. */
  freeze(): void {
    this.#child?.kill("SIGSTOP");
  }

  /** Lets a frozen process go on. */
  thaw(): void {
    this.#child?.kill("SIGCONT");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#kill();
  }

  async #start(): Promise<void> {
    const file = new URL("sqlite-process.child.ts", import.meta.url);
    const child = forkTypeScript(file, [this.#path], { serialization: "advanced" });
    // Whoever is stopped by a failing test leaves none behind, not even a frozen one.
    const killOnExit = () => child.kill("SIGKILL");
    process.once("exit", killOnExit);
    child.once("exit", () => process.off("exit", killOnExit));
    const opened = once(child, "message", { signal: AbortSignal.timeout(START_TIMEOUT_MS) });
    const ended = once(child, "exit").then(() => {
      throw new Error("the process of the store ended before it opened the file");
    });
    await Promise.race([opened, ended]);
    ended.catch(() => {});
    child.on("message", (reply: StoreReply) => this.#settle(reply));
    // A call may be sent just as the process ends; it is then failed like those before.
    child.on("error", () => {});
    this.#child = child;
  }

  async #kill(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    for (const { reject } of this.#waiting.values()) reject(storeUnavailable("it was killed"));
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
  }

  async #call(method: StoreRequest["method"], args: readonly unknown[]): Promise<unknown> {
    const child = this.#child;
    if (!child?.connected) throw storeUnavailable("its process is gone");
    const request: StoreRequest = { id: ++this.#lastId, method, args };
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#waiting.set(request.id, { resolve, reject });
    const timeout = () => reject(storeUnavailable("its process did not answer"));
    const timer = setTimeout(timeout, CALL_TIMEOUT_MS);
    child.send(request);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(request.id);
    }
  }

  #settle({ id, value, failure }: StoreReply): void {
    const waiting = this.#waiting.get(id);
    if (failure === undefined) waiting?.resolve(value);
    else if (failure.reason === undefined) waiting?.reject(new Error(failure.message));
    else waiting?.reject(new SessiondError(failure.reason, failure.message));
  }
}
