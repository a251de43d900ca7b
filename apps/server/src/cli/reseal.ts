import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { countSessions, type Keyring, resealSessions, type SessionStore } from "@sessiond/core";
import { pino } from "pino";
import type { StoreConfig } from "../config/config.js";
import { describeStore } from "../config/store-location.js";
import { openStores } from "../daemon/open-stores.js";
import type { ReportOutput, TextOutput } from "./command/command.js";
import { EXIT_FAILURE, EXIT_OK, exitCodeOf } from "./command/exit-codes.js";
import { ProgressReport } from "./command/progress-report.js";
import { onStopSignals } from "./command/signals.js";
import { writePaced } from "./terminal/paced-output.js";

/** The rest after a page with changes, so that the servers' calls come first. */
const PAUSE_MS = 20;
/** At most this many ids of each kind of failure are listed. */
const MAX_LISTED_IDS = 1_000;

/** Options of `runReseal`. */
export interface ResealOptions {
  readonly config: StoreConfig;
  readonly keyring: Keyring;
  /** Takes the summary. */
  readonly stdout: TextOutput;
  /** Takes the progress and the failures. */
  readonly stderr: ReportOutput;
}

/** Counts of the sessions so far, and the signal that stops the work. */
interface Tally {
  seen: number;
  resealed: number;
  current: number;
  readonly unreadable: string[];
  readonly busy: string[];
  stoppedBy?: NodeJS.Signals;
}

/**
 * Reseals every session that is not under the keyring's first key. Returns the exit
 * code: 0 if every session is under that key, 1 if some could not be resealed, 130
 * or 143 if SIGINT or SIGTERM stopped the work after the current page. A second
 * signal ends the process at once. Rejects if the store cannot be opened or fails.
 */
export async function runReseal(options: ResealOptions): Promise<number> {
  const { config, keyring, stderr } = options;
  if (config.store.kind === "sqlite" && !existsSync(config.store.path)) {
    // Opening would create an empty store, and report success.
    throw new Error(`there is no store ${describeStore(config.store)}`);
  }
  const tally: Tally = { seen: 0, resealed: 0, current: 0, unreadable: [], busy: [] };
  using _signals = onStopSignals(
    (signal) => {
      tally.stoppedBy = signal;
    },
    (signal) => process.exit(exitCodeOf(signal)),
  );
  await using opened = new AsyncDisposableStack();
  let connectionError: Error | undefined;
  const stores = await openStores(config, pino({ level: "silent" }), {
    onConnectionError: (error) => {
      connectionError = error;
    },
  });
  opened.defer(() => stores.close());
  const store = stores.sessions;

  const count = await countSessions(store).catch((error: unknown) => {
    // The call's own error does not say why there is no connection.
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

async function summarize(
  tally: Tally,
  { keyring, stdout }: ResealOptions,
  report: ProgressReport,
): Promise<number> {
  const { resealed, current, unreadable, busy } = tally;
  await writePaced(
    stdout,
    `resealed ${resealed} sessions under key "${keyring.activeKeyId}"; ` +
      `${current} already were, ${unreadable.length} are unreadable\n`,
  );
  list(
    "no key of the keyring opens these; a key may be missing, or they are damaged:",
    unreadable,
    report,
  );
  list(
    "a server with an old key in front kept changing these; run it again once none has:",
    busy,
    report,
  );
  return unreadable.length + busy.length > 0 ? EXIT_FAILURE : EXIT_OK;
}

function list(heading: string, ids: readonly string[], report: ProgressReport): void {
  if (ids.length === 0) return;
  report.say(heading);
  for (const id of ids.slice(0, MAX_LISTED_IDS)) report.say(`  ${id}`);
  const more = ids.length - MAX_LISTED_IDS;
  if (more > 0) report.say(`  and ${more} more`);
}

function describeProgress({ seen, resealed, current }: Tally, { total }: ProgressReport): string {
  return (
    `after ${seen} of about ${Math.max(seen, total)} sessions: ${resealed} resealed, ` +
    `${current} already were; run it again to go on`
  );
}
