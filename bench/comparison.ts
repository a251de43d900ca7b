// What was measured of the candidates, as the table of RESULTS.md and the headline of the README.
import { readFileSync, writeFileSync } from "node:fs";
import { type Candidate, type Cost, FLOOR } from "./candidates.ts";
import type { Latency } from "./load.ts";
import { median, quartersOf } from "./results.ts";

const README = new URL("../README.md", import.meta.url);
const [BEGIN, END] = ["<!-- written by pnpm bench -->", "<!-- end -->"];

/** A candidate and its rounds. All candidates have the same rounds, in the same order. */
export interface Row {
  readonly candidate: Candidate;
  readonly costs: Cost[];
  readonly latencies: Latency[];
}

/** How it was measured: the same words in the table, in the charts and in the README. */
export interface Circumstances {
  readonly command: string;
  readonly machine: string;
  readonly versions: string;
  /** The calls per second whose time is measured. */
  readonly perSecond: number;
  /** How many sessions each store has. */
  readonly sessions: number;
}

/** The medians of a row. */
export interface Figures {
  readonly name: string;
  readonly kind: Candidate["kind"];
  /** Calls that one core of the server answers in a second. */
  readonly callsPerCore: number;
  /** This in the same round divided by the floor's. */
  readonly ofFloor: number;
  /** The lowest and the highest ratio of the middle half of the rounds. */
  readonly quarters: readonly [low: number, high: number];
  readonly cost: Cost;
  readonly latency: Latency | undefined;
  readonly bytesPerSession: number | undefined;
}

/** The medians of all rows. */
export function figuresOf(rows: readonly Row[]): Figures[] {
  return rows.map(({ candidate, costs, latencies }) => {
    const ratios = ratiosOf(rows, candidate.name, FLOOR);
    const of = (value: (cost: Cost) => number) => median(costs.map(value));
    return {
      ...{ name: candidate.name, kind: candidate.kind },
      callsPerCore: of((cost) => 1e6 / ownMicros(cost)),
      ofFloor: median(ratios),
      quarters: quartersOf(ratios),
      cost: {
        server: of(({ server }) => server),
        redis: of(({ redis }) => redis),
        client: of(({ client }) => client),
      },
      latency:
        latencies.length === 0
          ? undefined
          : {
              p50Ms: median(latencies.map(({ p50Ms }) => p50Ms)),
              p99Ms: median(latencies.map(({ p99Ms }) => p99Ms)),
            },
      bytesPerSession: candidate.bytesPerSession,
    };
  });
}

/** The section of RESULTS.md. */
export function sectionOf(rows: readonly Row[], run: Circumstances): string {
  const figures = figuresOf(rows);
  return `Written by \`${run.command}\` on ${run.machine}; ${run.versions}.

| calls/s per core | of the echo | middle half | what | CPU µs: server | Redis | client | together | p50 ms | p99 ms | bytes a session |
| ---------------: | ----------: | ----------: | ---- | -------------: | ----: | -----: | -------: | -----: | -----: | --------------: |
${figures.map(lineOf).join("\n")}

${headlines(rows)
  .map((line) => `- ${line}`)
  .join("\n")}

![Calls per second and core](charts/calls-per-core.svg)
![CPU time of one verification](charts/cpu.svg)
![Latency](charts/latency.svg)
![Memory of a session](charts/memory.svg)

How it was measured:

- Each verifies one session with two roles, a client and a little data, out of many in the same Redis.
  sessiond has authentication of the caller, sealing, logs and metrics on; only the shedding of calls
  for a late event loop is off, because other work on the machine would set it off.
- express-session, @fastify/session and better-auth are set up as their documentation says, and answer a
  GET with the session. express-session touches the session in Redis at each request and
  @fastify/session writes it, by default; sessiond touches it once in a tenth of the idle timeout.
  better-auth keeps users in SQLite and has no cookie cache, so it reads Redis as the others do.
- The echoes parse the same request and serialize the same response, without anything else. GET reads
  one string, a copy of a session of sessiond: by a Node process, and by \`redis-benchmark\`.
- The server has core 0; h2load, which is the client of all but GET, and Redis share core 1. 100 calls
  are under way at any moment: 25 on each of 4 HTTP/2 connections, or 1 on each of 100 HTTP/1.1 ones.
  h2load costs far less than a client in TypeScript, which is measured in the section on the SDK.
- CPU time is the process's, from the kernel. Calls per second and core are a second divided by the
  server's CPU time for a call; for \`redis-benchmark\`, by that of Redis.
- In each round all are measured one right after the other, and ratios are taken within a round,
  after thousands of calls that do not count. All values are medians. The machine is shared: compare ratios.
- Latency is that of ${run.perSecond} calls a second on 10 connections, far below what any of them can do.
- Bytes are the growth of Redis' memory by ${run.sessions} sessions, one for each user: with indexes,
  events and sealing, where there are any. sessiond has keys of its own for each of 256 partitions, which
  weigh less the more sessions there are (\`pnpm bench:scale\` makes a million).
`;
}

/** The sentences that the README has, too. */
function headlines(rows: readonly Row[]): string[] {
  const grpc = "sessiond, gRPC, Redis";
  const ratio = (own: string, peer: string) => {
    const value = median(ratiosOf(rows, own, peer));
    return value < 3 ? value.toFixed(2) : value.toFixed(1);
  };
  return [
    `over gRPC, a core of sessiond verifies ${ratio(grpc, "express-session + connect-redis")} times as many sessions as express-session with connect-redis, ${ratio(grpc, "@fastify/session + connect-redis")} times as many as @fastify/session, ${ratio(grpc, "better-auth get-session")} times as many as better-auth, and ${ratio(grpc, FLOOR)} times the calls of a bare grpc-js echo`,
    `as JSON over HTTP/1.1, ${ratio("sessiond, JSON over HTTP/1.1, Redis", FLOOR)} times the calls of that echo`,
  ];
}

/** Puts the headlines into the README, between its markers. */
export function writeHeadlines(rows: readonly Row[], run: Circumstances): void {
  const readme = readFileSync(README, "utf8");
  const [from, to] = [readme.indexOf(BEGIN), readme.indexOf(END)];
  if (from === -1 || to < from) throw new Error(`README.md has no ${BEGIN} … ${END}`);
  const lines = headlines(rows).map((line) => `- ${line}`);
  const text = `${BEGIN}\n\n${lines.join("\n")}\n\nMeasured by \`${run.command}\` on ${run.machine}.\n\n`;
  writeFileSync(README, readme.slice(0, from) + text + readme.slice(to));
}

function lineOf({
  name,
  callsPerCore,
  ofFloor,
  quarters,
  cost,
  latency,
  bytesPerSession,
}: Figures) {
  const cells = [
    ...[Math.round(callsPerCore), ofFloor.toFixed(2), quarters.map((q) => q.toFixed(2)).join("–")],
    ...[name, cost.server.toFixed(0), cost.redis.toFixed(0), cost.client.toFixed(0)],
    (cost.server + cost.redis + cost.client).toFixed(0),
    ...[latency?.p50Ms.toFixed(2) ?? "", latency?.p99Ms.toFixed(2) ?? ""],
    bytesPerSession === undefined ? "" : Math.round(bytesPerSession),
  ];
  return `| ${cells.join(" | ")} |`;
}

/** One candidate's calls per core divided by another's, in each round. */
function ratiosOf(rows: readonly Row[], own: string, peer: string): number[] {
  const costsOf = (name: string) => {
    const row = rows.find(({ candidate }) => candidate.name === name);
    if (row === undefined) throw new Error(`no such candidate: ${name}`);
    return row.costs.map(ownMicros);
  };
  const others = costsOf(peer);
  return costsOf(own).map((micros, round) => (others[round] ?? Number.NaN) / micros);
}

/** The CPU time of the process that answers: for `redis-benchmark` that is Redis. */
function ownMicros({ server, redis }: Cost): number {
  return server === 0 ? redis : server;
}
