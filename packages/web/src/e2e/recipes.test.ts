import { afterAll, beforeAll, expect, test } from "vitest";
import { Browser } from "../testing/browser.js";
import { startRecipe, startSvelteKit } from "../testing/recipe-process.js";
import { type Sessiond, startSessiond } from "../testing/sessiond.js";

/** SvelteKit compiles a page when somebody asks for it. */
const TIMEOUT_MS = 180_000;
const MAX_LOGINS = 20;
const EVIL = { origin: "https://evil.example" };
const PAGE = { accept: "text/html" };

const opened = new AsyncDisposableStack();
let sessiond: Sessiond;
let origins: Record<"node" | "nestjs" | "trpc" | "sveltekit", string>;
beforeAll(async () => {
  sessiond = opened.use(
    await startSessiond({ SESSIOND_RATE_LIMITS: `login: ${MAX_LOGINS} per 1h` }),
  );
  const [node, nestjs, trpc, sveltekit] = [
    opened.use(await startRecipe("node/server.js", sessiond)).origin,
    opened.use(await startRecipe("nestjs/main.js", sessiond)).origin,
    opened.use(await startRecipe("trpc/server.js", sessiond)).origin,
    opened.use(await startSvelteKit(sessiond)).origin,
  ];
  origins = { node, nestjs, trpc, sveltekit };
}, TIMEOUT_MS);
afterAll(() => opened.disposeAsync());

const open = (recipe: keyof typeof origins) =>
  new Browser(origins[recipe], { "x-forwarded-proto": "https" });
const form = (name: string, password = `secret of ${name}`) => ({ form: { name, password } });

/** A call of tRPC as its client sends it. */
async function callTrpc(path: string, input?: object, headers: Record<string, string> = {}) {
  const response = await fetch(`${origins.trpc}/trpc/${path}`, {
    ...(input && { method: "POST", body: JSON.stringify(input) }),
    headers: { "content-type": "application/json", ...headers },
  });
  const { result, error } = await response.json();
  const [cookie = ""] = response.headers.getSetCookie();
  return { status: response.status, data: result?.data, code: error?.data.code, cookie };
}

test.each(["node", "nestjs"] as const)("the recipe of %s greets its user alone", async (recipe) => {
  const browser = open(recipe);
  expect((await browser.send("/")).status).toBe(401);
  expect((await browser.send("/", { ...form(recipe), headers: EVIL })).status).toBe(403);
  expect((await browser.send("/", form(recipe, "wrong"))).status).toBe(401);
  expect((await browser.send("/", form(recipe))).status).toBe(204);
  expect((await browser.send("/")).body).toBe(`hello, ${recipe}`);
});

test("the recipe of tRPC greets its user alone, and has tRPC's codes", async () => {
  const user = { name: "tim", password: "secret of tim" };
  expect(await callTrpc("greet")).toMatchObject({ status: 401, code: "UNAUTHORIZED" });
  expect(await callTrpc("logIn", user, EVIL)).toMatchObject({ status: 403, cookie: "" });
  expect(await callTrpc("logIn", { ...user, password: "" })).toMatchObject({ data: false });
  const { data, cookie } = await callTrpc("logIn", user);
  expect(data).toBe(true);
  expect((await callTrpc("greet", undefined, { cookie })).data).toBe("hello, tim");
});

test("the recipe of SvelteKit greets its user, and sends others to the login", {
  timeout: TIMEOUT_MS,
}, async () => {
  const browser = open("sveltekit");
  const send = (path: string, sent = {}) => browser.send(path, { headers: PAGE, ...sent });
  const login = { status: 303, headers: { location: "/login" } };
  expect(await send("/")).toMatchObject(login);
  expect((await send("/login")).body).toContain('<form method="post">');
  expect((await send("/login", { ...form("sue"), headers: EVIL })).status).toBe(403);
  const { host } = new URL(origins.sveltekit);
  const headers = { ...PAGE, origin: `http://${host}` };
  expect((await send("/login", { ...form("sue", "wrong"), headers })).status).toBe(401);
  expect(await send("/login", { ...form("sue"), headers })).toMatchObject({
    ...{ status: 303, headers: { location: "/" } },
  });
  expect((await send("/")).body).toContain("hello, sue");
});

test("every recipe answers a guess too many, and an outage, with the right status", {
  timeout: TIMEOUT_MS,
}, async () => {
  const headers = { ...PAGE, origin: origins.sveltekit };
  for (let i = 0; i < MAX_LOGINS; i++) await open("node").send("/", form("eve", "wrong"));
  const guesses = [
    open("node").send("/", form("eve")),
    open("nestjs").send("/", form("eve")),
    callTrpc("logIn", { name: "eve", password: "secret of eve" }),
    open("sveltekit").send("/login", { ...form("eve"), headers }),
  ];
  expect((await Promise.all(guesses)).map(({ status }) => status)).toEqual([429, 429, 429, 429]);

  const { token } = await sessiond.client.createSession({ userId: "ann" });
  await sessiond.kill();
  const cookie = `__Host-session=${token}`;
  const visits = [
    ...(["node", "nestjs", "sveltekit"] as const).map((recipe) =>
      open(recipe).send("/", { headers: { cookie } }),
    ),
    callTrpc("greet", undefined, { cookie, "x-forwarded-proto": "https" }),
  ];
  expect((await Promise.all(visits)).map(({ status }) => status)).toEqual([503, 503, 503, 503]);
});
