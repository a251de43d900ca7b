// Calls real stores from many clients while servers are frozen and killed and networks
// fail, and checks that what they answered can be explained one call at a time.
import { parseArgs } from "node:util";
import {
  type FaultRunReport,
  type FaultyStores,
  runUnderFaults,
} from "../packages/core/src/testing/history/fault-run.ts";
import { startFaultyRedis } from "../packages/core/src/testing/history/faulty-redis.ts";
import { startFaultySqlite } from "../packages/core/src/testing/history/faulty-sqlite.ts";

const STORES: Readonly<Record<string, () => Promise<FaultyStores>>> = {
  redis: startFaultyRedis,
  sqlite: startFaultySqlite,
};
const HELP = `Usage: pnpm soak [--minutes N] [--store redis|sqlite] [--seed N] [--verbose]

Calls a store of two servers from many clients for N minutes (default 10) while it is
frozen, killed and cut off, and checks that each user's history is linearizable: that
some order of the calls, taken one at a time, explains every answer. Stops at the first
that has none, prints the calls that show it, and exits with 1.

  --store    which store; Redis by default, which needs redis-server on the PATH
  --seed     what is called and what goes wrong follows from it; random by default
  --verbose  say what goes wrong as it does`;

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "10" },
    store: { type: "string", default: "redis" },
    seed: { type: "string", default: `${Date.now() % 2 ** 32}` },
    verbose: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

// An orderly exit ends the servers too, of which one may be frozen just then.
process.once("SIGINT", () => process.exit(130));
process.once("SIGTERM", () => process.exit(143));

const minutes = Number(values.minutes);
const seed = Number(values.seed);
const start = STORES[values.store];
if (values.help) {
  console.log(HELP);
} else if (start === undefined || !(minutes > 0) || !Number.isSafeInteger(seed)) {
  console.error(`${HELP}\n\nThese are not options: ${process.argv.slice(2).join(" ")}`);
  process.exitCode = 2;
} else {
  process.exitCode = report(await soak(start));
}

async function soak(startStores: () => Promise<FaultyStores>): Promise<FaultRunReport> {
  console.log(`${values.store} for ${minutes} min, seed ${seed}`);
  await using faulty = await startStores();
  return await runUnderFaults({
    ...faulty,
    seed,
    durationMs: minutes * 60_000,
    log: (line) => console.log(new Date().toISOString(), line),
    logFaults: values.verbose,
  });
}

/** Answers the exit code. */
function report({ violation, undecided, ...numbers }: FaultRunReport): number {
  console.log(numbers);
  if (undecided > 0) console.error(`${undecided} histories were too much to decide`);
  if (violation !== undefined) console.error(violation);
  return violation === undefined && undecided === 0 ? 0 : 1;
}
