import { execFile, spawnSync } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { Keyring } from "@sessiond/core";
import { expect, test } from "vitest";
import { clientOver, GRPC } from "../testing/protocols.js";
import { byId, newSession } from "../testing/session-requests.js";
import { temporaryDirectory } from "../testing/temporary-directory.js";
import { startTestServer, type TestServer } from "../testing/test-server.js";

const PAGE = new URL("../../../../docs/operations.md", import.meta.url);
const run = promisify(execFile);

/** What the page's block of commands with this text prints, with the test's places in it. */
async function printed(
  text: string,
  { env = {}, replace = {} }: { env?: NodeJS.ProcessEnv; replace?: Record<string, string> },
): Promise<string> {
  const page = await readFile(PAGE, "utf8");
  const blocks = [...page.matchAll(/^( *)```sh\n(.*?)^\1```/gms)].map(([, , code = ""]) => code);
  let commands = blocks.find((block) => block.includes(text)) ?? expect.fail(`no block: ${text}`);
  for (const [from, to] of Object.entries(replace)) commands = commands.replaceAll(from, to);
  const { stdout } = await run("bash", ["-ec", commands], { env: { ...process.env, ...env } });
  return stdout;
}

const lacks = (command: string) => spawnSync(command, ["--version"]).error !== undefined;

const at = ({ httpUrl }: TestServer) => ({ SERVER: httpUrl });

test("the operator's commands show whether a server is healthy", async () => {
  await using server = await startTestServer();
  const [ok, ...report] = (await printed("/readyz", { env: at(server) })).split("\n");
  expect(ok).toBe("ok");
  expect(JSON.parse(report.join("\n"))).toMatchObject({
    status: "ready",
    parts: { store: { ready: true }, issuer_keys: { ready: true, never_fetched: [] } },
  });
});

test("the operator's commands log every user out", async () => {
  await using server = await startTestServer();
  const client = clientOver(GRPC, server);
  for (const userId of ["ann", "bob", "carol"]) await newSession(client, { userId });
  const env = { TOKEN: server.accessToken, ...at(server) };
  expect(await printed("RevokeSession", { env })).toBe('{"count":0}');
});

test("the operator's commands end at a token that may not revoke", async () => {
  await using server = await startTestServer();
  await newSession(clientOver(GRPC, server));
  const TOKEN = await server.issuer.sign({ claims: { scope: "sessions:read" } });
  const env = { TOKEN, ...at(server) };
  expect(await printed("RevokeSession", { env })).toBe('{"count":1}');
});

test("the operator's commands find the caller that floods", async () => {
  await using directory = await temporaryDirectory();
  await using server = await startTestServer();
  const flooder = await server.issuer.sign({ claims: { sub: "flooder", scope: "sessions:read" } });
  const client = clientOver(GRPC, server, flooder);
  for (let i = 0; i < 3; i++) await client.countSessions({});
  await clientOver(GRPC, server).countSessions({});

  const log = join(directory.path, "sessiond.log");
  await writeFile(log, server.logs.map((line) => `${JSON.stringify(line)}\n`).join(""));
  const env = { LOG: log };
  const [first] = (await printed(".method] | @tsv", { env })).split("\n");
  expect(first?.trim()).toBe(
    `3 flooder\t${server.issuer.url}\tsessiond.v1.SessionService/CountSessions`,
  );
  expect(await printed(".duration_ms] | @tsv", { env })).toMatch(/^\d+ flooder$/m);
});

test.skipIf(lacks("sqlite3"))(
  "a backup of SQLite that was made while a server ran restores, with what was revoked since",
  async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, "sessiond.db");
    const replace = {
      "/var/lib/sessiond/sessiond.db": path,
      "/var/backups/": `${directory.path}/backup-`,
      "-o sessiond -g sessiond ": "",
    };
    const keyring = Keyring.parse(Keyring.generateKey());
    const options = { store: `sqlite:${path}`, keyring };
    const before = await startTestServer(options);
    const client = clientOver(GRPC, before);
    const { sessionId, token } = await newSession(client);
    expect(await printed(".backup", { replace })).toBe("ok\n");
    await client.revokeSession(byId(sessionId));
    const { token: later } = await newSession(client);
    await before[Symbol.asyncDispose]();

    await printed("install", { replace });
    await using after = await startTestServer(options);
    const restored = clientOver(GRPC, after);
    expect((await restored.verifySession({ token })).session?.id).toBe(sessionId);
    await expect(restored.verifySession({ token: later })).rejects.toThrow("not found");
  },
);
