// Measures what one update costs the server with 1 to 1,000 watchers, and how soon all are told.
import { cpus } from "node:os";
import { parseArgs } from "node:util";
import { createSessionClient, type SessionClient } from "@sessiond/client";
import type { ServerProcess } from "./processes.ts";
import { median, writeSection } from "./results.ts";
import { atLeast, startForSdk } from "./verify-session.ts";

/** Nearly as many as a namespace may have: a thousand. */
const WATCHERS = [0, 1, 10, 100, 990];
/** A connection has a thousand streams at most. */
const CLIENTS = 4;
const WARM_UP_UPDATES = 10;

/** What an update costs without a watcher. */
let idleMicros: number | undefined;

const { values } = parseArgs({
  options: {
    updates: { type: "string", default: "200" },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  console.log(`Usage: pnpm bench:watchers [--updates N]

Makes N updates (default 200) with each of ${WATCHERS.join(", ")} watchers, and writes a section of
bench/RESULTS.md. Needs the same tools as pnpm bench.`);
} else await main(atLeast(10, "updates", values.updates));

async function main(updates: number): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const permissions = "sessions:create,sessions:read,sessions:update";
  const { server, accessToken, baseUrl } = await startForSdk(stack, permissions);
  const rows: string[] = [];
  for (const watchers of WATCHERS) {
    const options = { baseUrl, token: accessToken, timeoutMs: 30_000 };
    const clients = Array.from({ length: CLIENTS }, () => createSessionClient(options));
    rows.push(await measure(clients, server, watchers, updates));
    console.log(rows.at(-1));
    for (const client of clients) client.close();
  }
  writeSection(
    "The number of watchers",
    `Written by \`pnpm bench:watchers --updates ${updates}\` on Node ${process.versions.node}, ${cpus().length} cores.

| watchers | server CPU µs an update | of these for each watcher | ms until all are told: median |
| -------: | ----------------------: | ------------------------: | ----------------------------: |
${rows.join("\n")}

- UpdateSession on Redis, one after the other; each waits until all watchers of all users are told. The
  time has the update itself, and the watchers' own work: they share a process and a core with Redis.
`,
  );
}

async function measure(
  clients: readonly SessionClient[],
  server: ServerProcess,
  watchers: number,
  updates: number,
): Promise<string> {
  const [client] = clients as [SessionClient];
  const { session } = await client.createSession({ userId: `user-of-${watchers}` });
  let told = 0;
  let onAllTold = () => {};
  for (let i = 0; i < watchers; i++) {
    const watch = clients[i % CLIENTS]?.watchSessions();
    // Its first message says that it watches.
    await watch?.next();
    void follow(watch, (count) => {
      told += count;
      if (told >= watchers) onAllTold();
    });
  }
  const update = async (n: number) => {
    told = 0;
    const allTold = new Promise<void>((resolve) => {
      onAllTold = resolve;
    });
    await client.updateSession(session.id, { displayName: `Ada ${n}` });
    if (watchers > 0) await allTold;
  };
  for (let n = 0; n < WARM_UP_UPDATES; n++) await update(n);
  const before = server.cpuSeconds();
  const waits: number[] = [];
  for (let n = 0; n < updates; n++) {
    const startMs = performance.now();
    await update(n);
    waits.push(performance.now() - startMs);
  }
  const micros = ((server.cpuSeconds() - before) * 1e6) / updates;
  idleMicros ??= micros;
  const each = watchers === 0 ? "" : ((micros - idleMicros) / watchers).toFixed(0);
  return `| ${watchers} | ${micros.toFixed(0)} | ${each} | ${median(waits).toFixed(1)} |`;
}

/** Counts the events that a watch brings, until its client closes. */
async function follow(
  watch: ReturnType<SessionClient["watchSessions"]> | undefined,
  onEvents: (count: number) => void,
): Promise<void> {
  try {
    for await (const message of watch ?? []) {
      if (message.type === "events") onEvents(message.events.length);
    }
  } catch {
    // Its client has closed.
  }
}
