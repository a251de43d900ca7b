import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ExampleProcess, startExample } from "../testing/example-process.js";
import { type Sessiond, startSessiond } from "../testing/sessiond.js";

const README = fileURLToPath(new URL("../../../../examples/hono-api/README.md", import.meta.url));
const run = promisify(execFile);

let sessiond: Sessiond;
let api: ExampleProcess;
beforeAll(async () => {
  sessiond = await startSessiond();
  // As in production: the cookie of `__Host-`.
  api = await startExample("hono-api", sessiond, { env: { NODE_ENV: "production" } });
});
afterAll(async () => {
  await api?.[Symbol.asyncDispose]();
  await sessiond?.[Symbol.asyncDispose]();
});

/** Sends JSON, with a cookie or a bearer token. */
async function call(method: string, path: string, sent: { headers?: object; json?: unknown } = {}) {
  const type = sent.json === undefined ? {} : { "content-type": "application/json" };
  const response = await fetch(api.url + path, {
    method,
    headers: { ...type, ...sent.headers },
    ...(sent.json !== undefined && { body: JSON.stringify(sent.json) }),
  });
  const [cookie = ""] = response.headers.getSetCookie();
  const body = await response.text();
  return { status: response.status, cookie, body: body && JSON.parse(body) };
}

async function tokenOf(name: string, password: string) {
  const { body } = await call("POST", "/tokens", { json: { name, password } });
  return { authorization: `Bearer ${body.token}` };
}

test("the commands of the README get a token, use it, and end it", async () => {
  const [, commands = ""] = /```sh\n(API=.*?)```/s.exec(readFileSync(README, "utf8")) ?? [];
  const script = commands.replace("http://127.0.0.1:3000", api.url);
  const { stdout } = await run("bash", ["-ec", script]);
  const answers = stdout.trim().split("\n");
  expect(answers.map((answer) => JSON.parse(answer))).toEqual([
    { userId: "ann", displayName: "Ann", roles: [] },
    { devices: [expect.objectContaining({ isCurrent: true, ip: "127.0.0.1" })] },
    expect.objectContaining({ reason: "LOGIN_REQUIRED" }),
  ]);
});

test("a browser has its token in the cookie alone, and signs out the program of its user", async () => {
  const program = await tokenOf("ann", "green tea");
  const login = await call("POST", "/login", { json: { name: "ann", password: "green tea" } });
  expect(login.cookie).toMatch(/^__Host-session=sst_.*HttpOnly/);
  expect(JSON.stringify(login.body)).not.toContain("sst_");

  const browser = { headers: { cookie: login.cookie.split(";", 1)[0] } };
  const { devices } = (await call("GET", "/devices", browser)).body;
  const other = devices.find((device: { isCurrent: boolean }) => !device.isCurrent);
  expect((await call("DELETE", `/devices/${other.id}`, browser)).status).toBe(204);
  expect((await call("DELETE", `/devices/${other.id}`, browser)).status).toBe(404);
  expect((await call("GET", "/me", { headers: program })).status).toBe(401);

  expect((await call("POST", "/logout", browser)).status).toBe(204);
  expect((await call("GET", "/me", browser)).status).toBe(401);
});

test("only the admin sees who is logged in", async () => {
  const sessionsSeenBy = async (headers: object) => call("GET", "/admin/sessions", { headers });
  expect((await sessionsSeenBy(await tokenOf("ann", "green tea"))).status).toBe(403);
  const { body } = await sessionsSeenBy(await tokenOf("ada", "black tea"));
  expect(body.sessions).toContainEqual({ id: expect.any(String), userId: "ada" });
});

test("what is no login is refused by name, and guesses are counted", async () => {
  for (const json of [null, [], { name: "eve" }, { name: 1, password: "x" }]) {
    const { status, body } = await call("POST", "/login", { json });
    expect([status, body.detail]).toEqual([400, "name, password: expected texts"]);
  }
  const reasons = new Set<string>();
  for (let guess = 0; guess < 10; guess++) {
    const { body } = await call("POST", "/login", { json: { name: "eve", password: "a guess" } });
    reasons.add(body.reason);
  }
  expect([...reasons]).toEqual(["WRONG_NAME_OR_PASSWORD", "TOO_MANY_ATTEMPTS"]);
});
