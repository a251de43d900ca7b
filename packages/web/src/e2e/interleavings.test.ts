import { setTimeout as sleep } from "node:timers/promises";
import {
  type RedisServer,
  startRedisServer,
  startTcpFaultProxy,
  type TcpFaultProxy,
} from "@sessiond/core/testing";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { type Answer, Browser } from "../testing/browser.js";
import { type Sessiond, startSessiond } from "../testing/sessiond.js";
import { form, startShop } from "../testing/shop.js";

const COOKIE = "__Host-session";
/** `SESSIOND_WEB_RUNS=1000` tries a thousand. More than half of the runs wait out an outage. */
const RUNS = Number(process.env["SESSIOND_WEB_RUNS"] ?? 12);
/** Many runs are tried on several systems side by side: most of their time is waiting. */
const SYSTEMS = RUNS < 100 ? 1 : 4;
const RECOVERY = { timeout: 15_000, interval: 25 };

/** A server with a Redis of its own. */
interface System {
  readonly redis: RedisServer;
  /** Between sessiond and its Redis. */
  readonly network: TcpFaultProxy;
  readonly sessiond: Sessiond;
}

const systems: System[] = [];
beforeAll(async () => {
  while (systems.length < SYSTEMS) systems.push(await startSystem());
});
afterAll(async () => {
  for (const { sessiond, network, redis } of systems) {
    await sessiond[Symbol.asyncDispose]();
    await network[Symbol.asyncDispose]();
    await redis.stop();
  }
});

async function startSystem(): Promise<System> {
  const redis = await startRedisServer();
  const network = await startTcpFaultProxy({ host: "127.0.0.1", port: redis.port });
  const env = {
    SESSIOND_STORE: `redis://127.0.0.1:${network.port}`,
    SESSIOND_RATE_LIMITS: "login: 10000 per 1s",
    SESSIOND_MAX_SESSIONS_PER_USER: "100",
  };
  // Short, so that a browser is soon told of an outage.
  const sessiond = await startSessiond(env, { timeoutMs: 1_500 });
  return { redis, network, sessiond };
}

/** `end` is a sign-out from another device. */
type Operation = "page" | "background" | "rotate" | "reauthenticated" | "login" | "logout" | "end";
type Outage = "none" | "redis is gone" | "replies are lost";

/** Requests that the browser sends at the same time. Their answers arrive in any order. */
interface Batch {
  /** Random operations end sessions more often than they begin some. */
  readonly logsInFirst: boolean;
  readonly operations: readonly { operation: Operation; delayMs: number; arrival: number }[];
  readonly outage: Outage;
}

const LOGIN: Batch = {
  logsInFirst: false,
  operations: [{ operation: "login", delayMs: 0, arrival: 0 }],
  outage: "none",
};

const batches = fc.array(
  fc.record<Batch>({
    logsInFirst: fc.boolean(),
    operations: fc.array(
      fc.record({
        operation: fc.constantFrom<Operation>(
          ...(["page", "background", "background", "rotate", "rotate"] as const),
          ...(["reauthenticated", "login", "logout", "end"] as const),
        ),
        delayMs: fc.nat(4),
        arrival: fc.nat(),
      }),
      { minLength: 1, maxLength: 4 },
    ),
    outage: fc.oneof(
      { weight: 4, arbitrary: fc.constant<Outage>("none") },
      { weight: 1, arbitrary: fc.constantFrom<Outage>("redis is gone", "replies are lost") },
    ),
  }),
  { minLength: 2, maxLength: 6 },
);

/** What must be so of a browser, as far as its user can know it. */
interface Known {
  /**
   * Undefined if a login beside a logout leaves it open, or an outage: what failed in it may still
   * happen afterwards, until the user logs in or out with success.
   */
  isLoggedIn: boolean | undefined;
  /** All tokens that the current session has had. */
  readonly tokens: Set<string>;
  /** Tokens of sessions that have ended. */
  readonly dead: Set<string>;
}

/** A user with one browser, and what must be so of it. */
interface Visitor {
  readonly system: System;
  readonly user: string;
  readonly browser: Browser;
  readonly known: Known;
}

/** What was tried, for `--reporter verbose`: without logins or outages the test proves nothing. */
const tried = { runs: 0, runsWithOutage: 0, requests: 0, batchesLoggedIn: 0, batchesLoggedOut: 0 };

test(
  "no logged-out browser gets in and no logged-in one is thrown out, in any order and outage",
  async ({ annotate }) => {
    await Promise.all(systems.map(tryOn));
    await annotate(JSON.stringify(tried));
    for (const count of Object.values(tried)) expect(count).toBeGreaterThan(0);
  },
  RUNS * 20_000,
);

/** Tries a share of the runs. */
async function tryOn(system: System): Promise<void> {
  const origin = await startShop({ client: system.sessiond.client });
  const property = fc.asyncProperty(batches, async (sequence) => {
    tried.runs += 1;
    tried.runsWithOutage += sequence.some(({ outage }) => outage !== "none") ? 1 : 0;
    const user = `user-${tried.runs}`;
    const browser = new Browser(origin, { "x-forwarded-proto": "https" });
    const known: Known = { isLoggedIn: false, tokens: new Set(), dead: new Set() };
    const visitor = { system, user, browser, known };
    try {
      for (const batch of sequence) {
        if (batch.logsInFirst && known.isLoggedIn !== true) await runBatch(visitor, LOGIN);
        await runBatch(visitor, batch);
      }
    } finally {
      await recover(system);
    }
    for (const token of known.dead) {
      expect(await system.sessiond.client.verifySession(token)).toBeUndefined();
    }
  });
  await fc.assert(property, { numRuns: Math.ceil(RUNS / SYSTEMS), endOnFailure: true });
}

async function runBatch(visitor: Visitor, batch: Batch): Promise<void> {
  const { system, browser, known } = visitor;
  const before = browser.cookies.get(COOKIE);
  tried.requests += batch.operations.length;
  if (known.isLoggedIn === true) tried.batchesLoggedIn += 1;
  if (known.isLoggedIn === false) tried.batchesLoggedOut += 1;
  startOutage(system, batch.outage);
  const answered = await Promise.all(
    batch.operations.map(async ({ operation, delayMs, arrival }) => {
      await sleep(delayMs);
      return { operation, arrival, answer: await perform(visitor, operation) };
    }),
  );
  for (const { answer } of inOrderOfArrival(answered)) {
    if (answer !== undefined) browser.receive(answer);
  }
  await recover(system);
  expectNobodyThrownOut(answered, known);
  learn(answered, before, known);
  const probe = await answerOnceWell(browser);
  if (known.isLoggedIn !== undefined) expect(probe.status).toBe(known.isLoggedIn ? 200 : 401);
  const now = browser.cookies.get(COOKIE);
  if (probe.status === 200 && now !== undefined) known.tokens.add(now);
}

interface Answered {
  readonly operation: Operation;
  readonly arrival: number;
  readonly answer: Answer | undefined;
}

function perform(
  { system, user, browser }: Visitor,
  operation: Operation,
): Promise<Answer | undefined> {
  switch (operation) {
    case "page":
      return browser.sendOnly("/mine", { headers: { "sec-fetch-dest": "document" } });
    case "background":
      return browser.sendOnly("/mine", { headers: { "sec-fetch-dest": "empty" } });
    case "login":
      return browser.sendOnly("/login", { form: form(user) });
    case "rotate":
      return browser.sendOnly("/rotate", { form: { graceMs: "60000" } });
    case "end":
      return system.sessiond.client.revokeUserSessions(user).then(
        () => undefined,
        () => ({ status: 503, headers: {}, setCookie: [], body: "" }),
      );
    default:
      return browser.sendOnly(`/${operation}`, { form: {} });
  }
}

/**
 * Any order, but for one thing: what the application answered before it began to log the user in
 * arrives before the answer to that login.
 */
function inOrderOfArrival(answered: readonly Answered[]): Answered[] {
  const order = answered.toSorted((a, b) => a.arrival - b.arrival);
  for (const login of answered.filter(({ operation }) => operation === "login")) {
    const isEarlier = (each: Answered) =>
      each !== login && timeIn(each, "x-answered-at") < timeIn(login, "x-checked-at");
    const earlier = order.filter(isEarlier);
    const others = order.filter((each) => !isEarlier(each));
    order.splice(0, order.length, ...earlier, ...others);
  }
  return order;
}

function timeIn({ answer }: Answered, field: string): number {
  return Number(answer?.headers[field] ?? 0);
}

/** Whatever happens, a user whose session nobody ends is never told to log in. */
function expectNobodyThrownOut(answered: readonly Answered[], known: Known): void {
  const harmless = new Set<Operation>(["page", "background", "rotate"]);
  if (!known.isLoggedIn || !answered.every(({ operation }) => harmless.has(operation))) return;
  for (const { answer } of answered) expect([200, 503]).toContain(answer?.status);
}

/** What the browser gets now. A busy machine may be too slow to answer in time: 503. */
async function answerOnceWell(browser: Browser): Promise<Answer> {
  return vi.waitUntil(async () => {
    const answer = await browser.sendOnly("/mine", { headers: { "sec-fetch-dest": "empty" } });
    return answer.status !== 503 && answer;
  }, RECOVERY);
}

function learn(answered: readonly Answered[], before: string | undefined, known: Known): void {
  const of = (operation: Operation) => answered.filter((each) => each.operation === operation);
  const succeeded = (operation: Operation) =>
    of(operation).some(({ answer }) => answer === undefined || answer.status === 200);
  const isOpen = (operation: Operation) =>
    of(operation).some(({ answer }) => answer?.status === 503);
  // A login ends the session whose token it brought. If that was replaced without a grace while
  // the login was under way, the session lives on, and nobody has its new token.
  const renewing = succeeded("login") ? of("rotate") : [...of("rotate"), ...of("reauthenticated")];
  const renewed = renewing.flatMap(({ answer }) => tokensIn(answer));
  for (const token of [before ?? "", ...renewed]) if (token !== "") known.tokens.add(token);

  const hasEnded = succeeded("logout") || succeeded("end");
  if (hasEnded || succeeded("login")) {
    for (const token of known.tokens) known.dead.add(token);
    known.tokens.clear();
  }
  const endings = of("logout").length + of("end").length;
  if (succeeded("login")) known.isLoggedIn = endings > 0 ? undefined : true;
  else if (isOpen("login") || (!hasEnded && (isOpen("logout") || isOpen("end")))) {
    known.isLoggedIn = undefined;
  } else if (hasEnded) known.isLoggedIn = false;
  else if (isOpen("reauthenticated")) known.isLoggedIn = undefined;
}

function tokensIn(answer: Answer | undefined): string[] {
  const pattern = new RegExp(`^${COOKIE}=(sst_[^;]+)`);
  return (answer?.setCookie ?? []).flatMap((line) => pattern.exec(line)?.[1] ?? []);
}

function startOutage({ network }: System, outage: Outage): void {
  if (outage === "redis is gone") network.refuse();
  if (outage === "replies are lost") network.dropReplies(1);
}

/** Ends the outage, and waits until sessiond has noticed. */
async function recover({ network, sessiond }: System): Promise<void> {
  network.pass();
  const isWell = async () => (await sessiond.client.countSessions({ userId: "nobody" })) === 0;
  await expect.poll(() => isWell().catch(() => false), RECOVERY).toBe(true);
}
