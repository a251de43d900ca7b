import { closeSync, openSync } from "node:fs";
import type { Logger } from "pino";
import type { AuditLevel } from "./log-level.js";
import { jsonLog, type LineWriter, openLines } from "./log-lines.js";
import { flushLog } from "./logger.js";

/** Where the audit goes. A file has an absolute path. */
export type AuditDestination = "stdout" | "stderr" | "off" | { readonly file: string };

/** What the configuration says about the audit. */
export interface AuditConfig {
  readonly to: AuditDestination;
  readonly level: AuditLevel;
}

/** The queue for a slow disk or reader: tens of thousands of lines. Lines beyond it are lost. */
const AUDIT_LIMIT_BYTES = 8 * 1024 * 1024;
/** Tells the lines from those of the log. */
const MARK = { log: "audit" } as const;
const MARKED = '"log":"audit"';

/**
 * Writes the audit's lines in the background. Whatever becomes of them, no call waits or fails: what
 * cannot be written is counted, and the log says so.
 */
export class AuditLog {
  readonly #lines: LineWriter;
  readonly #log: Logger;
  readonly #isFile: boolean;
  #onDropped: () => void = () => {};
  /** The reader has gone for good, and the writer throws lines away. */
  #isDeaf = false;

  constructor(lines: LineWriter, level: AuditLevel, logger: Logger, isFile = false) {
    this.#lines = lines;
    this.#log = jsonLog(lines, { level, base: MARK });
    this.#isFile = isFile;
    let isFailing = false;
    let dropped = 0;
    lines.on("error", (error: NodeJS.ErrnoException) => {
      this.#isDeaf ||= error.code === "EPIPE";
      if (!isFailing) logger.error({ error: error.message }, "the audit cannot be written");
      isFailing = true;
    });
    lines.on("drop", (line: string) => {
      // Stdout has other lines, too.
      if (!line.includes(MARKED)) return;
      dropped++;
      this.#onDropped();
    });
    lines.on("drain", () => {
      if (!isFailing && dropped === 0) return;
      isFailing = false;
      logger.warn({ lines: dropped }, "the audit is written again; so many lines were lost");
      dropped = 0;
    });
  }

  /** Has `listener` called for each line that is lost. */
  onDropped(listener: () => void): void {
    this.#onDropped = listener;
  }

  /** Whether lines of this level are written. */
  has(level: AuditLevel): boolean {
    return this.#log.isLevelEnabled(level);
  }

  /** Writes a line, without waiting for it. */
  write(level: AuditLevel, fields: object): void {
    if (this.#isDeaf) this.#onDropped();
    else this.#log[level](fields);
  }

  /** Opens a file again by its path, for whoever has renamed it. Keeps the old one if that fails. */
  reopen(): void {
    if (this.#isFile) this.#lines.reopen();
  }

  /** Resolves when all is written, cannot be written, or `timeoutMs` has passed. */
  flush(timeoutMs: number): Promise<void> {
    return flushLog(this.#log, timeoutMs);
  }
}

/**
 * Opens the audit; undefined if it is off. `stdout` is the writer of the log, because two writers
 * would cut each other's lines. Throws an Error if a file cannot be opened.
 */
export function openAuditLog(
  { to, level }: AuditConfig,
  logger: Logger,
  stdout: LineWriter,
): AuditLog | undefined {
  if (to === "off") return undefined;
  if (to === "stdout") return new AuditLog(stdout, level, logger);
  if (to === "stderr") return new AuditLog(openLines(2, AUDIT_LIMIT_BYTES), level, logger);
  closeSync(openSync(to.file, "a", 0o600));
  return new AuditLog(openLines(to.file, AUDIT_LIMIT_BYTES), level, logger, true);
}
