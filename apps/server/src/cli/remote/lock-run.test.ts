import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http2";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type ListeningServerProcess,
  type ServerProcess,
  spawnServer,
  spawnSessiond,
} from "../../testing/server-process.js";

const directory = mkdtempSync(join(tmpdir(), "sessiond-lock-run-"));
const dataDir = join(directory, "data");

let server: ListeningServerProcess;
beforeAll(async () => {
  server = await startServer();
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true });
});

function startServer(): Promise<ListeningServerProcess> {
  return spawnServer({
    flags: ["--dev", "--data-dir", dataDir, "--rate-limits", "once: 1 per 1h"],
  });
}

/** Runs `sessiond` with the data directory of the server. */
function sessiond(args: readonly string[], url = server.grpcUrl): ServerProcess {
  return spawnSessiond(args, { env: { SESSIOND_SERVER: url, SESSIOND_DATA_DIR: dataDir } });
}

/** Runs a line of shell under a lock. */
function underLock(
  name: string,
  flags: readonly string[],
  line: string,
  url?: string,
): ServerProcess {
  return sessiond(["lock", "run", name, ...flags, "--", "sh", "-c", line], url);
}

const file = (name: string) => join(directory, name);

/** Resolves with the content of a file once it ends with a newline. */
async function written(path: string): Promise<string> {
  const read = () => {
    try {
      return readFileSync(path, "utf8");
    } catch {
      return "";
    }
  };
  await expect.poll(read, { timeout: 20_000 }).toMatch(/\n$/);
  return read();
}

describe("sessiond lock run", () => {
  test("gives the command a fencing token, and passes on its output and exit code", async () => {
    const run = underLock("codes", [], 'echo "token $SESSIOND_FENCING_TOKEN"; exit 7');
    expect(await run.ended).toBe(7);
    expect(run.stdout).toMatch(/^token \d{13,}\n$/);
    expect(run.stderr).toBe("");
  });

  test.each([
    ["ended by a signal", ["sh", "-c", "kill -9 $$"], 137, ""],
    ["that does not exist", ["/no/such/command"], 127, "/no/such/command: command not found"],
    ["that is a directory", [tmpdir()], 126, "EACCES"],
  ])("a command %s has the shells' exit code", async (_, command, code, message) => {
    const run = sessiond(["lock", "run", "codes", "--", ...command]);
    expect(await run.ended).toBe(code);
    expect(run.stderr).toContain(message);
  });

  test("a command may take longer than the ttl, because the lease is renewed", async () => {
    const [begun, finish] = [file("begun-long"), file("finish-long")];
    const line = `echo > ${begun}; while [ ! -e ${finish} ]; do sleep 0.1; done; echo done`;
    const long = underLock("renewed", ["--ttl=1500ms"], line);
    await written(begun);
    await sleep(3_500);
    const other = underLock("renewed", ["--wait-timeout=0s"], "echo overlap");
    expect(await other.ended).toBe(75);
    expect(other.stdout).toBe("");
    expect(other.stderr).toBe('sessiond: the lock "renewed" could not be had in time\n');
    writeFileSync(finish, "");
    expect(await long.ended).toBe(0);
    expect(long.stdout).toBe("done\n");
  });

  test("a kill frees the lock once its ttl is over, and the next has a higher token", async () => {
    const path = file("killed");
    const echo = 'echo "$SESSIOND_FENCING_TOKEN"';
    const killed = underLock("killed", ["--ttl=2s"], `${echo} $$ > ${path}; sleep 60`);
    const [token, pid] = (await written(path)).split(" ");
    const killMs = performance.now();
    killed.kill("SIGKILL");
    const next = underLock("killed", ["--ttl=2s"], echo);
    expect(await next.ended).toBe(0);
    expect(performance.now() - killMs).toBeGreaterThan(1_000);
    expect(Number(next.stdout)).toBeGreaterThan(Number(token));
    // The command outlives a killed `sessiond`.
    process.kill(-Number(pid), "SIGKILL");
  });

  test.each(["SIGINT", "SIGTERM"] as const)(
    "passes %s on, waits for the command, and gives the lock back",
    async (signal) => {
      const begun = file(`begun-${signal}`);
      const trap = `trap 'kill $!; echo caught; exit 3' ${signal.slice(3)}`;
      const run = underLock(`signal-${signal}`, [], `${trap}; echo > ${begun}; sleep 30 & wait`);
      await written(begun);
      run.kill(signal);
      expect(await run.ended).toBe(3);
      expect(run.stdout).toBe("caught\n");
      expect(await underLock(`signal-${signal}`, ["--wait-timeout=0s"], "exit 0").ended).toBe(0);
    },
  );

  test("a signal ends the wait for a lock", async () => {
    // Takes the call and never answers.
    const busy = createServer().listen(0, "127.0.0.1");
    await once(busy, "listening");
    const url = `http://127.0.0.1:${(busy.address() as AddressInfo).port}`;
    await using waiting = underLock("waiting", ["--wait-timeout=1h"], "echo overlap", url);
    const [request] = await once(busy, "request");
    expect(request.url).toBe("/sessiond.v1.LockService/AcquireLock");
    waiting.kill("SIGINT");
    expect(await waiting.ended).toBe(130);
    expect(waiting.stdout).toBe("");
    busy.close();
  });

  test("ends the command, by force if necessary, when the lease cannot be renewed", async () => {
    await using doomed = await startServer();
    const begun = [file("lost-1"), file("lost-2")] as const;
    const start = (name: string, line: string) =>
      underLock(name, ["--ttl=1s"], line, doomed.grpcUrl);
    const polite = start("lost-1", `echo > ${begun[0]}; sleep 60`);
    const stubborn = start("lost-2", `trap '' TERM; echo > ${begun[1]}; sleep 60; sleep 60`);
    await Promise.all(begun.map(written));
    const killMs = performance.now();
    doomed.kill("SIGKILL");
    expect(await polite.ended).toBe(1);
    expect(polite.stderr).toContain("sessiond: the lock is lost: ending the command\n");
    expect(polite.stderr).toContain('the lock "lost-1" is lost: its lease could not be renewed');
    expect(await stubborn.ended).toBe(1);
    expect(performance.now() - killMs).toBeGreaterThan(10_000);
  });

  test("does not run the command if the server cannot be reached, and says so", async () => {
    const run = underLock("x", ["--wait-timeout=0s"], "echo overlap", "http://127.0.0.1:1");
    expect(await run.ended).toBe(69);
    expect(run.stdout).toBe("");
    expect(run.stderr).toMatch(/ECONNREFUSED.*\(UNAVAILABLE\)/);
  });
});

test("sessiond lock get says whether a lock is held, and until when", async () => {
  const begun = file("begun-asked");
  await using holder = underLock("asked", [], `echo > ${begun}; exec sleep 60`);
  await written(begun);
  const held = sessiond(["lock", "get", "asked"]);
  expect(await held.ended).toBe(0);
  expect(held.stdout).toMatch(/^held with fencing token \d{13,} until \d{4}-.*Z \(in \d\ds\)\n$/);
  holder.kill("SIGTERM");
  await holder.ended;
  const free = sessiond(["lock", "get", "asked", "--json"]);
  expect(await free.ended).toBe(1);
  expect(JSON.parse(free.stdout)).toEqual({ name: "asked", held: false });
});

test("a development key that is not the server's is named, with the way out", async () => {
  const elsewhere = file("elsewhere");
  const made = sessiond(["token", "--permissions=locks:use", "--data-dir", elsewhere]);
  expect(await made.ended).toBe(0);
  const foreign = ["--data-dir", elsewhere];
  const lock = sessiond(["lock", "run", "x", ...foreign, "--", "true"]);
  const limit = sessiond(["rate-limit", "check", "once", "x", ...foreign]);
  for (const run of [lock, limit]) {
    expect(await run.ended).toBe(69);
    expect(run.stderr).toContain("(UNAUTHENTICATED)\n");
    expect(run.stderr).toContain(`development key in ${elsewhere}`);
    expect(run.stderr).toContain("--data-dir");
  }
});

test("sessiond rate-limit counts an attempt, refuses one too many, and forgets them", async () => {
  const call = async (action: string, policy: string) => {
    const run = sessiond(["rate-limit", action, policy, "203.0.113.7"]);
    return [await run.ended, run.stdout.trim(), run.stderr];
  };
  const first = [0, "allowed: limit 1, remaining 0, retry after 0s", ""];
  const refused = /^refused: limit 1, remaining 0, retry after 5\dm/;
  expect(await call("check", "once")).toEqual(first);
  expect(await call("check", "once")).toEqual([1, expect.stringMatching(refused), ""]);
  expect(await call("get", "once")).toEqual([1, expect.stringMatching(refused), ""]);
  expect(await call("reset", "once")).toEqual([0, "", ""]);
  // To ask counts nothing.
  expect(await call("get", "once")).toEqual([0, expect.stringContaining("remaining 1"), ""]);
  expect(await call("check", "once")).toEqual(first);
  const unknown = [2, "", expect.stringContaining("there is no policy")];
  expect(await call("check", "unheard-of")).toEqual(unknown);
});
