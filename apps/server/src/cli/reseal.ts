import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { type Keyring, resealSessions, type SessionStore } from "@sessiond/core";
import { pino } from "pino";
import type { Config } from "../config/config.js";
import { describeStore } from "../config/store-location.js";
import { openStores } from "../daemon/open-stores.js";
import { EXIT_FAILURE, EXIT_OK, exitCodeOf } from "./command/exit-codes.js";
import { ProgressReport, type ReportOutput } from "./command/progress-report.js";
import { onStopSignals } from "./command/signals.js";

/** How long it rests after a page that it changed, so that servers' calls come first. */
const PAUSE_MS = 20;
/** How many ids are listed of what could not be resealed. */
const MAX_LISTED_IDS = 1_000;

/** What `sessiond keys reseal` works with. */
export interface ResealOptions {
  readonly config: Pick<Config, "store" | "retentionMs" | "durability">;
  readonly keyring: Keyring;
  /** The summary. */
  readonly stdout: Pick<ReportOutput, "write">;
  /** Progress, and what could not be done. */
  readonly stderr: ReportOutput;
}

/** The sessions so far, and the signal that stops the work. */
interface Tally {
  seen: number;
  resealed: number;
  current: number;
  readonly unreadable: string[];
  readonly busy: string[];
  stoppedBy?: NodeJS.Signals;
}

/**
 * Seals every session anew that is not under the keyring's first key. Answers the
 * exit code: 0 when nothing is left to do, 1 when some sessions could not be
 * resealed, 130 or 143 when SIGINT or SIGTERM stopped it after the page under
 * way; a second signal ends the process at once. Rejects where the store cannot
 * be opened, or fails.
 */
export async function runReseal(options: ResealOptions): Promise<number> {
  const { config, keyring, stderr } = options;
  if (config.store.kind === "sqlite" && !existsSync(config.store.path)) {
    // Opening it would make an empty one, and report success.
    throw new Error(`there is no store ${describeStore(config.store)}`);
  }
  const tally: Tally = { seen: 0, resealed: 0, current: 0, unreadable: [], busy: [] };
  await using opened = new AsyncDisposableStack();
  opened.use(
    onStopSignals(
      (signal) => {
        tally.stoppedBy = signal;
      },
      (signal) => process.exit(exitCodeOf(signal)),
    ),
  );
  let connectionError: Error | undefined;
  const stores = await openStores(config, pino({ level: "silent" }), (error) => {
    connectionError = error;
  });
  opened.defer(() => stores.close());
  const store = stores.sessions;

  const count = await store.count().catch((error: unknown) => {
    // What the call failed with does not say why there is no connection.
    const cause = connectionError ?? error;
    throw new Error(`cannot use the store ${describeStore(config.store)}`, { cause });
  });
  const report = new ProgressReport(stderr, count);
  report.say(`resealing about ${report.total} sessions under key "${keyring.activeKeyId}"`);
  try {
    await resealPages(store, keyring, tally, report);
  } catch (error) {
    report.end();
    throw new Error(`failed ${describeProgress(tally, report)}`, { cause: error });
  }
  report.end();
  if (tally.stoppedBy !== undefined) {
    report.say(`stopped by ${tally.stoppedBy} ${describeProgress(tally, report)}`);
    return exitCodeOf(tally.stoppedBy);
  }
  return summarize(tally, options, report);
}

async function resealPages(
  store: SessionStore,
  keyring: Keyring,
  tally: Tally,
  report: ProgressReport,
): Promise<void> {
  for await (const page of resealSessions(store, keyring)) {
    const { resealed, current, unreadableSessionIds, busySessionIds } = page;
    tally.resealed += resealed;
    tally.current += current;
    tally.unreadable.push(...unreadableSessionIds);
    tally.busy.push(...busySessionIds);
    tally.seen += resealed + current + unreadableSessionIds.length + busySessionIds.length;
    report.progress(tally.seen);
    if (resealed > 0 && tally.stoppedBy === undefined) await sleep(PAUSE_MS);
    if (tally.stoppedBy !== undefined) return;
  }
}

function summarize(
  tally: Tally,
  { keyring, stdout }: ResealOptions,
  report: ProgressReport,
): number {
  const { resealed, current, unreadable, busy } = tally;
  stdout.write(
    `resealed ${resealed} sessions under key "${keyring.activeKeyId}"; ` +
      `${current} already were, ${unreadable.length} are unreadable\n`,
  );
  if (unreadable.length > 0) {
    report.say("no key of the keyring opens these; a key may be missing, or they are damaged:");
    for (const line of listOf(unreadable)) report.say(line);
  }
  if (busy.length > 0) {
    report.say(
      "a server with an old key in front kept changing these; run it again once none has:",
    );
    for (const line of listOf(busy)) report.say(line);
  }
  return unreadable.length + busy.length > 0 ? EXIT_FAILURE : EXIT_OK;
}

function listOf(ids: readonly string[]): readonly string[] {
  const lines = ids.slice(0, MAX_LISTED_IDS).map((id) => `  ${id}`);
  const more = ids.length - lines.length;
  return more > 0 ? [...lines, `  and ${more} more`] : lines;
}

function describeProgress({ seen, resealed, current }: Tally, { total }: ProgressReport): string {
  return (
    `after ${seen} of about ${Math.max(seen, total)} sessions: ${resealed} resealed, ` +
    `${current} already were; run it again to go on`
  );
}
