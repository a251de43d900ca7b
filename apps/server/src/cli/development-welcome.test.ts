import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { TestAuthority } from "@sessiond/core/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { bearer, GRPC, sessionClient } from "../testing/protocols.js";
import { type ListeningServerProcess, spawnServer } from "../testing/server-process.js";

const run = promisify(execFile);
const BUF = fileURLToPath(new URL("../../../../node_modules/.bin/buf", import.meta.url));

let directory: string;
let server: ListeningServerProcess;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "sessiond-welcome-"));
  // Without any setting but the ports, as on a first try.
  server = await spawnServer({ flags: ["--dev"], cwd: directory });
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

/** Runs commands as a user would who pastes them into a shell. */
async function paste(commands: string): Promise<string> {
  const script = `set -euo pipefail\n${exportedToken()}\n${commands}`;
  return (await run("bash", ["-c", script], { cwd: directory })).stdout;
}

test("the welcome names the addresses on which the server listens", () => {
  expect(server.stdout).toContain(`gRPC                    ${server.grpcAddress}\n`);
  expect(server.stdout).toContain(`Connect, gRPC-Web, JSON ${server.httpUrl}\n`);
  expect(server.stdout).toContain("sqlite:.sessiond/sessiond.db");
});

const buf = (commands: string) =>
  // The only difference from the text: nothing is installed from the network.
  commands.replaceAll(/npx --yes @bufbuild\/buf@[\d.]+/g, `"${BUF}"`);
const grpcurl = (commands: string) =>
  // buf takes the same options, in another order.
  commands
    .replaceAll("grpcurl -plaintext", `"${BUF}" curl --protocol grpc --http2-prior-knowledge`)
    .replaceAll("grpcurl -insecure", `"${BUF}" curl --protocol grpc --insecure`)
    .replaceAll(
      `${server.grpcAddress} sessiond.v1`,
      `${commands.includes("-insecure") ? "https" : "http"}://${server.grpcAddress}/sessiond.v1`,
    );
const TOOLS = [
  ["curl", (commands: string) => commands],
  ["buf curl", buf],
  ["grpcurl", grpcurl],
] as const;

test.each(TOOLS)(
  "the %s commands create a session and verify it",
  async (heading, withInstalledTool) => {
    const commands = commandsBelow(`${heading},`);
    await run("bash", ["-n", "-c", commands]);
    const { session } = JSON.parse(await paste(withInstalledTool(commands)));
    expect(session).toMatchObject({ userId: "ann", roles: ["admin"] });
  },
);

test("sessions and the welcome's token outlive a restart", async () => {
  const created = JSON.parse(await paste(commandsBelow("curl,")));
  const token = exportedToken().replace("export TOKEN=", "");
  server.kill("SIGTERM");
  expect(await server.ended).toBe(0);
  server = await spawnServer({ flags: ["--dev"], cwd: directory });
  const client = sessionClient(GRPC.open(server), bearer(token));
  const { session } = await client.getSession({ sessionId: created.session.id });
  expect(session?.userId).toBe("ann");
});

test("with TLS, the commands use it", async () => {
  using authority = new TestAuthority();
  const { cert, key } = authority.issue();
  server.kill("SIGTERM");
  expect(await server.ended).toBe(0);
  const flags = ["--dev", "--tls-cert", cert, "--tls-key", key];
  server = await spawnServer({ flags, cwd: directory });
  await server.printed(/^# grpcurl(.|\n)*VerifySession\n\n/m);
  for (const [heading, withInstalledTool] of TOOLS) {
    const { session } = JSON.parse(await paste(withInstalledTool(commandsBelow(`${heading},`))));
    expect(session).toMatchObject({ userId: "ann" });
  }
});
