import { setTimeout as sleep } from "node:timers/promises";
import { examineConfig } from "../../config/config.js";
import type { ConfigSources } from "../../config/read-settings.js";
import type { ReportOutput } from "../command/command.js";
import { EXIT_FAILURE, EXIT_OK, exitCodeOf } from "../command/exit-codes.js";
import { ReaderGoneError, writePaced } from "../terminal/paced-output.js";
import { certificatesCheck } from "./checks/certificates-check.js";
import { type Check, fault, type Outcome, type Skipped, type Subject } from "./checks/check.js";
import { clocksCheck } from "./checks/clocks-check.js";
import { diskCheck } from "./checks/disk-check.js";
import { evictionCheck } from "./checks/eviction-check.js";
import { filesCheck } from "./checks/files-check.js";
import { issuersCheck } from "./checks/issuers-check.js";
import { keysCheck } from "./checks/keys-check.js";
import { latencyCheck } from "./checks/latency-check.js";
import { memoryCheck } from "./checks/memory-check.js";
import { persistenceCheck } from "./checks/persistence-check.js";
import { portsCheck } from "./checks/ports-check.js";
import { redisVersionCheck } from "./checks/redis-version-check.js";
import { replicasCheck } from "./checks/replicas-check.js";
import { settingsCheck } from "./checks/settings-check.js";
import { storeCheck } from "./checks/store-check.js";
import { probeIssuers } from "./probes/probe-issuers.js";
import { probeStore } from "./probes/probe-store.js";
import { reasonOf } from "./probes/reason-of.js";
import { type CheckReport, jsonReport, statusOf, summarize, textReport } from "./report.js";

/** In the order of the report: first what other checks stand on. */
const CHECKS: readonly (readonly [name: string, check: Check])[] = [
  ["settings", settingsCheck],
  ["files", filesCheck],
  ["disk", diskCheck],
  ["ports", portsCheck],
  ["certificates", certificatesCheck],
  ["store", storeCheck],
  ["version", redisVersionCheck],
  ["eviction", evictionCheck],
  ["persistence", persistenceCheck],
  ["replicas", replicasCheck],
  ["memory", memoryCheck],
  ["latency", latencyCheck],
  ["keys", keysCheck],
  ["issuers", issuersCheck],
  ["clocks", clocksCheck],
];

/** Longer than what any check waits for. It ends the command even if one of them has no end. */
const CHECK_TIMEOUT_MS = 15_000;

/** Options of `runDoctor`. */
export interface DoctorOptions {
  readonly sources: ConfigSources;
  readonly json: boolean;
  readonly colors: boolean;
  readonly stdout: ReportOutput;
}

/**
 * Makes all checks at the same time, and reports each as soon as those before it are done. Returns
 * the exit code: 1 if there is a fault. Changes nothing.
 */
export async function runDoctor({ sources, json, colors, stdout }: DoctorOptions): Promise<number> {
  const config = await examineConfig(sources);
  const store = probeStore(config);
  const subject = { sources, config, store, issuers: probeIssuers(config.values.auth) };
  const running = CHECKS.map(([name, check]) => ({ name, outcome: make(check, subject) }));
  const reports: CheckReport[] = [];
  try {
    for (const { name, outcome: pending } of running) {
      const outcome = await pending;
      if (outcome === undefined) continue;
      const report = { check: name, ...outcome };
      reports.push(report);
      await writePaced(stdout, json ? jsonReport(report) : textReport(report, colors));
    }
    if (!json) await writePaced(stdout, summarize(reports));
  } catch (error) {
    if (error instanceof ReaderGoneError) return exitCodeOf("SIGPIPE");
    throw error;
  }
  return reports.some((report) => statusOf(report) === "fault") ? EXIT_FAILURE : EXIT_OK;
}

async function make(check: Check, subject: Subject): Promise<Outcome | Skipped | undefined> {
  const done = new AbortController();
  const overdue = sleep(CHECK_TIMEOUT_MS, undefined, { signal: done.signal });
  try {
    return await Promise.race([check(subject), overdue.then(() => failed("it took too long"))]);
  } catch (error) {
    return failed(reasonOf(error));
  } finally {
    done.abort();
    overdue.catch(() => {});
  }
}

function failed(why: string): Outcome {
  const problem = `The check could not be made: ${why}.`;
  return { summary: "", findings: [fault(problem, "Try again; if it stays, report it.")] };
}
