import { execFile } from "node:child_process";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { bearer, GRPC, sessionClient } from "../testing/protocols.js";
import {
  type ListeningServerProcess,
  spawnServer,
  spawnSessiond,
} from "../testing/server-process.js";

const run = promisify(execFile);
const BUF = fileURLToPath(new URL("../../../../node_modules/.bin/buf", import.meta.url));

let directory: string;
let server: ListeningServerProcess;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "sessiond-welcome-"));
  // With nothing but the ports set, as someone who tries it for the first time.
  server = await spawnServer({ cwd: directory });
  await server.printed(/^# grpcurl(.|\n)*VerifySession\n\n/m);
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

/** The commands below one of the welcome's headings. */
function commandsBelow(heading: string): string {
  const from = server.stdout.indexOf(`# ${heading}`);
  const to = server.stdout.indexOf("\n\n", from);
  if (from < 0) throw new Error(`no "# ${heading}" in:\n${server.stdout}`);
  return server.stdout.slice(from, to);
}

function exportedToken(): string {
  return /^export TOKEN=\S+$/m.exec(server.stdout)?.[0] ?? "";
}

/** Runs commands as if they had been pasted. */
async function paste(commands: string): Promise<string> {
  const script = `set -euo pipefail\n${exportedToken()}\n${commands}`;
  return (await run("bash", ["-c", script], { cwd: directory })).stdout;
}

test("the welcome says where the server really listens", () => {
  expect(server.stdout).toContain(`gRPC                    ${server.grpcAddress}\n`);
  expect(server.stdout).toContain(`Connect, gRPC-Web, JSON ${server.httpUrl}\n`);
  expect(server.stdout).toContain("sqlite:.sessiond/sessiond.db");
});

test("the curl commands create a session and verify it, as printed", async () => {
  const { session } = JSON.parse(await paste(commandsBelow("curl,")));
  expect(session).toMatchObject({ userId: "ann", roles: ["admin"] });
});

test("the buf commands do the same over gRPC, by reflection", async () => {
  const commands = commandsBelow("buf curl,");
  // The one thing not done as printed: nothing is installed from the network.
  const installed = commands.replaceAll(/npx --yes @bufbuild\/buf@[\d.]+/g, `"${BUF}"`);
  expect(installed).not.toBe(commands);
  const { session } = JSON.parse(await paste(installed));
  expect(session).toMatchObject({ userId: "ann", roles: ["admin"] });
});

test("the grpcurl commands are well-formed, and differ in the tool alone", async () => {
  const commands = commandsBelow("grpcurl,");
  await run("bash", ["-n", "-c", commands]);
  // grpcurl takes the same options, but for where the address stands.
  const arranged = commands
    .replaceAll("grpcurl -plaintext", `"${BUF}" curl --protocol grpc --http2-prior-knowledge`)
    .replaceAll(`${server.grpcAddress} sessiond.v1`, `http://${server.grpcAddress}/sessiond.v1`);
  const { session } = JSON.parse(await paste(arranged));
  expect(session).toMatchObject({ userId: "ann" });
});

test("the development keys are for their owner alone", async () => {
  const dataDir = join(directory, ".sessiond");
  const names = await readdir(dataDir);
  expect(names).toContain("development-keyring");
  for (const name of names) {
    expect((await stat(join(dataDir, name))).mode & 0o077, name).toBe(0);
  }
});

test("a token of the command line is accepted, with the permissions it was made with", async () => {
  await using cli = spawnSessiond(["token", "--permissions", "sessions:read"], { cwd: directory });
  expect(await cli.ended).toBe(0);
  const client = sessionClient(GRPC.open(server), bearer(cli.stdout.trim()));
  expect((await client.countSessions({})).count).toBeGreaterThanOrEqual(0);
  await expect(client.createSession({ userId: "ann" })).rejects.toThrow("sessions:create");
});

test("sessions, and the token of the welcome, outlive a restart", async () => {
  const created = JSON.parse(await paste(commandsBelow("curl,")));
  const token = exportedToken().replace("export TOKEN=", "");
  server.kill("SIGTERM");
  expect(await server.ended).toBe(0);
  server = await spawnServer({ cwd: directory });
  const client = sessionClient(GRPC.open(server), bearer(token));
  const { session } = await client.getSession({ sessionId: created.session.id });
  expect(session?.userId).toBe("ann");
});
