// Measures what VerifySession costs its caller: the SDK alone and in batches, beside connect-node's
// transport, a bare client of grpc-js and bare HTTP/2.
import { cpus } from "node:os";
import { parseArgs } from "node:util";
import { createSessionClient } from "@sessiond/client";
import { type Caller, startCaller } from "./caller.ts";
import type { ServerProcess } from "./processes.ts";
import { median, writeSection } from "./results.ts";
import { createSessions } from "./session-content.ts";
import { atLeast, LOAD_CORE, startForSdk } from "./verify-session.ts";

const CALLER = new URL("sdk-caller.ts", import.meta.url).pathname;
const SESSIONS = 256;
const WARM_UP_ROUNDS = 3;
const WARM_UP_CALLS = 10_000;
/** Calls that run alone wait for the other core each time, so we make fewer of them. */
const SHARE_ALONE = 0.1;

/** A way to call, and how many calls at a time. */
interface Row {
  readonly name: string;
  readonly way: string;
  readonly concurrent: number;
}

const ROWS: readonly Row[] = [
  { name: "SDK through connect-node, alone", way: "sdk-connect-node", concurrent: 1 },
  { name: "SDK without batches, alone", way: "sdk-single", concurrent: 1 },
  { name: "SDK, alone", way: "sdk", concurrent: 1 },
  { name: "SDK with a near cache", way: "sdk-near", concurrent: 1 },
  { name: "bare grpc-js, alone", way: "grpc-js", concurrent: 1 },
  { name: "bare node:http2, alone", way: "http2", concurrent: 1 },
  { name: "SDK through connect-node, 16", way: "sdk-connect-node", concurrent: 16 },
  { name: "SDK without batches, 16", way: "sdk-single", concurrent: 16 },
  { name: "SDK, 16", way: "sdk", concurrent: 16 },
  { name: "SDK through connect-node, 256", way: "sdk-connect-node", concurrent: 256 },
  { name: "SDK without batches, 256", way: "sdk-single", concurrent: 256 },
  { name: "SDK, 256", way: "sdk", concurrent: 256 },
  { name: "bare grpc-js, 256", way: "grpc-js", concurrent: 256 },
  { name: "bare node:http2, 256", way: "http2", concurrent: 256 },
];

/** What a call costs, in microseconds. */
interface Cost {
  readonly client: number;
  readonly server: number;
  readonly wait: number;
}

const { values } = parseArgs({
  options: {
    calls: { type: "string", default: "5000" },
    rounds: { type: "string", default: "20" },
    concurrent: { type: "string" },
    dry: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  console.log(`Usage: pnpm bench:sdk [--calls N] [--rounds N] [--concurrent N] [--dry]

Makes N calls of VerifySession (default 5000, alone a tenth) in each of several ways in
turn, N rounds (default 20), and writes a section of bench/RESULTS.md; with --dry it only
prints it. With --concurrent it measures only N calls at a time (1, 16 or 256). Needs the same tools as pnpm bench.`);
} else {
  await main(atLeast(100, "calls", values.calls), atLeast(3, "rounds", values.rounds));
}

async function main(calls: number, rounds: number): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const { server, accessToken, baseUrl } = await startForSdk(stack);
  const client = stack.use(createSessionClient({ baseUrl, token: accessToken }));
  const tokens = await createSessions(client, 0, SESSIONS);
  const rows = ROWS.filter(
    ({ concurrent }) => `${concurrent}` === (values.concurrent ?? `${concurrent}`),
  );
  // Each has a process of its own: V8 makes fast what a process does often, such as to call alone.
  const callers = new Map<Row, Caller>();
  for (const row of rows) {
    const caller = await startCaller(LOAD_CORE, [CALLER, row.way, baseUrl, accessToken, ...tokens]);
    stack.defer(() => caller.stop());
    callers.set(row, caller);
    await caller.call({ calls: WARM_UP_CALLS, concurrent: row.concurrent });
  }

  const costs = new Map<Row, Cost[]>(rows.map((row) => [row, []]));
  for (let round = 1 - WARM_UP_ROUNDS; round <= rounds; round++) {
    // The order alternates, so that a machine that becomes slower favours neither.
    for (const row of round % 2 === 0 ? rows : rows.toReversed()) {
      const share = row.concurrent === 1 ? SHARE_ALONE : 1;
      const cost = await measure(row, callers.get(row), server, Math.ceil(calls * share));
      if (round > 0) costs.get(row)?.push(cost);
    }
    console.log(`round ${round} of ${rounds}`);
  }
  const text = report(costs, commandOf(calls, rounds));
  if (values.dry) console.log(text);
  else writeSection("The SDK", text);
}

function commandOf(calls: number, rounds: number): string {
  const concurrent = values.concurrent === undefined ? "" : ` --concurrent ${values.concurrent}`;
  return `pnpm bench:sdk --calls ${calls} --rounds ${rounds}${concurrent}`;
}

async function measure(
  row: Row,
  caller: Caller | undefined,
  server: ServerProcess,
  calls: number,
): Promise<Cost> {
  if (caller === undefined) throw new Error(`no caller for ${row.name}`);
  const before = server.cpuSeconds();
  const { seconds, cpuMicros } = await caller.call({ calls, concurrent: row.concurrent });
  return {
    client: cpuMicros / calls,
    server: ((server.cpuSeconds() - before) * 1e6) / calls,
    wait: (seconds * 1e6 * row.concurrent) / calls,
  };
}

function report(costs: ReadonlyMap<Row, readonly Cost[]>, command: string): string {
  const of = (way: string, concurrent: number) => {
    const found = [...costs].find(([row]) => row.way === way && row.concurrent === concurrent);
    return found?.[1] ?? [];
  };
  const ratio = (own: readonly Cost[], peer: readonly Cost[], value: (cost: Cost) => number) =>
    median(own.map((cost, i) => value(cost) / value(peer[i] as Cost))).toFixed(3);
  const client = (cost: Cost) => cost.client;
  const both = (cost: Cost) => cost.client + cost.server;
  const rows = [...costs].map(([{ name }, each]) => {
    const cells = [client, (cost: Cost) => cost.server, both, (cost: Cost) => cost.wait].map(
      (value) => median(each.map(value)).toFixed(1),
    );
    return `| ${name} | ${cells.join(" | ")} |`;
  });
  const ratios = [
    `- client CPU of a call alone: ${ratio(of("sdk-single", 1), of("sdk-connect-node", 1), client)} of the same call through connect-node's transport`,
    `- client CPU of 256 calls at a time without batches: ${ratio(of("sdk-single", 256), of("sdk-connect-node", 256), client)} of the same calls through connect-node's transport, and ${ratio(of("sdk-single", 256), of("grpc-js", 256), client)} of a bare client of grpc-js`,
    `- CPU of client and server with 256 calls at a time: ${ratio(of("sdk", 256), of("sdk-single", 256), both)} of the same calls without batches, and ${ratio(of("sdk", 256), of("sdk-connect-node", 256), both)} of those through connect-node`,
    `- a call alone takes ${ratio(of("sdk", 1), of("sdk-single", 1), (cost) => cost.wait)} of the time that it takes without batches`,
  ];
  return `Written by \`${command}\` on Node ${process.versions.node}, ${cpus().length} cores.

| VerifySession by | client CPU µs | server CPU µs | both | µs until the answer |
| ---------------- | ------------: | ------------: | ---: | ------------------: |
${rows.join("\n")}

Ratios, medians of the rounds:

${ratios.filter((line) => !line.includes("NaN")).join("\n")}

How it was measured: a server on Redis, with authentication, sealing, logs and metrics, has core 0; the
client and Redis share core 1. Each row is a process of its own and verifies ${SESSIONS} sessions in
turn. All take turns in each round; ${WARM_UP_CALLS} calls and ${WARM_UP_ROUNDS} rounds before do not count. Values are medians.
`;
}
