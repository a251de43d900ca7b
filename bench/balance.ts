// Counts how evenly connections are spread over two processes: by node:cluster, which gives them away
// in turn, and by the system (SO_REUSEPORT), which hashes their addresses.
import cluster, { type Worker } from "node:cluster";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { parseArgs } from "node:util";
import { median, writeSection } from "./results.ts";
import { atLeast } from "./verify-session.ts";

const WORKERS = 2;
const CONNECTIONS = [2, 4, 8, 16, 64];

type Way = "cluster" | "reusePort";
const TITLES = { cluster: "node:cluster, in turn", reusePort: "SO_REUSEPORT" } as const;

if (cluster.isPrimary) {
  const { values } = parseArgs({
    options: { trials: { type: "string", default: "200" }, help: { type: "boolean" } },
  });
  if (values.help) {
    console.log(`Usage: pnpm bench:balance [--trials N]

Opens some connections to two processes, N times (default 200), and writes a section of
bench/RESULTS.md.`);
  } else await main(atLeast(1, "trials", values.trials));
} else work(process.env["BENCH_WAY"] as Way);

async function main(trials: number): Promise<void> {
  const rows: string[] = [];
  for (const way of ["cluster", "reusePort"] as const) {
    const { port, workers } = await start(way);
    for (const count of CONNECTIONS) {
      const shares: number[] = [];
      for (let trial = 0; trial < trials; trial++)
        shares.push(await busiestShare(port, count, workers));
      const percent = (share: number) => `${Math.round(share * 100)} %`;
      const alone = shares.filter((share) => share === 1).length / trials;
      rows.push(
        `| ${TITLES[way]} | ${count} | ${percent(median(shares))} | ${percent(Math.max(...shares))} | ${percent(alone)} |`,
      );
    }
    for (const worker of workers) worker.process.kill();
  }
  writeSection(
    "How connections are spread over two workers",
    `Written by \`pnpm bench:balance --trials ${trials}\` on Node ${process.versions.node}.

| by | connections | of the busier worker: median | worst | all on one worker |
| -- | ----------: | ---------------------------: | ----: | ----------------: |
${rows.join("\n")}

- Connections are opened one right after the other, as a client's or a load balancer's pool does. An
  HTTP/2 connection carries many calls for many minutes, so its worker carries them.
`,
  );
}

async function start(way: Way): Promise<{ port: number; workers: Worker[] }> {
  const port = await freePort();
  const workers: Worker[] = [];
  for (let i = 0; i < WORKERS; i++) {
    const worker = cluster.fork({ BENCH_WAY: way, BENCH_PORT: `${port}` });
    await once(worker, "message");
    workers.push(worker);
  }
  return { port, workers };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}

/** Which part of so many connections is on the busier worker. */
async function busiestShare(port: number, count: number, workers: readonly Worker[]) {
  const sockets: Socket[] = [];
  for (let i = 0; i < count; i++) {
    const socket = connect(port, "127.0.0.1");
    sockets.push(socket);
    await once(socket, "data");
  }
  const counts = await Promise.all(
    workers.map(async (worker) => {
      worker.send("count");
      const [open] = (await once(worker, "message")) as [number];
      return open;
    }),
  );
  for (const socket of sockets) socket.resetAndDestroy();
  return Math.max(...counts) / count;
}

function work(way: Way): void {
  let accepted = 0;
  const server = createServer((socket) => {
    accepted++;
    socket.on("error", () => {});
    socket.write("hello");
  });
  const port = Number(process.env["BENCH_PORT"]);
  server.listen({ port, host: "127.0.0.1", reusePort: way === "reusePort" }, () => {
    process.send?.("listening");
  });
  process.on("message", () => {
    process.send?.(accepted);
    accepted = 0;
  });
}
