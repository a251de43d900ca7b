#!/usr/bin/env node
import { EXIT_FAILURE } from "./cli/command/exit-codes.js";

// Node would open its inspector, through which anybody on the machine could read every session.
process.on("SIGUSR1", () => {});

/** The same as `engines` in package.json. */
const OLDEST_NODE = 24;
/** How long the process of a command that is done may take to end by itself. */
const EXIT_GRACE_MS = 1_000;

const { node } = process.versions;
if (Number.parseInt(node, 10) < OLDEST_NODE) {
  process.stderr.write(`sessiond needs Node.js ${OLDEST_NODE} or newer; this is ${node}\n`);
  process.exitCode = EXIT_FAILURE;
} else {
  // Imported only now: an older Node cannot even load its imports.
  const { runSessiond } = await import("./cli/sessiond.js");
  process.exitCode = await runSessiond();
  // A worker's channel to its primary process would keep it alive.
  process.channel?.unref();
  // So would the look-up of a name that no resolver answers, a connection to a dead peer, and a log that
  // nobody reads.
  setTimeout(() => process.exit(), EXIT_GRACE_MS).unref();
}
