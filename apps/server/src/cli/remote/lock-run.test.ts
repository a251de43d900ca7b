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
  const limits = "login: 10 per 15m; once: 1 per 1h";
  return spawnServer({ flags: ["--data-dir", dataDir, "--rate-limits", limits] });
}

/** Runs `sessiond` as somebody beside the server would. */
function sessiond(args: readonly string[], url = server.grpcUrl): ServerProcess {
  return spawnSessiond(args, { env: { SESSIOND_SERVER: url, SESSIOND_DATA_DIR: dataDir } });
}

/** Runs a line of shell under a lock. */
function underLock(name: string, flags: readonly string[], line: string): ServerProcess {
  return sessiond(["lock", "run", name, ...flags, "--", "sh", "-c", line]);
}

const file = (name: string) => join(directory, name);
const linesOf = (path: string) => {
  try {
    return readFileSync(path, "utf8").trim().split("\n");
  } catch {
    return [];
  }
};
/** Resolves once the file has this many lines. */
async function written(path: string, lines = 1): Promise<readonly string[]> {
  await expect.poll(() => linesOf(path).length, { timeout: 10_000 }).toBeGreaterThanOrEqual(lines);
  return linesOf(path);
}

/** Ends what a killed `sessiond` has left behind. */
function endGroup(pid: string | undefined): void {
  process.kill(-Number(pid), "SIGKILL");
}

describe("sessiond lock run", () => {
  test("gives the command a fencing token, and passes on what it prints and its exit code", async () => {
    const run = underLock("codes", [], 'echo "token $SESSIOND_FENCING_TOKEN"; exit 7');
    expect(await run.ended).toBe(7);
    expect(run.stdout).toMatch(/^token \d{13,}\n$/);
    expect(run.stderr).toBe("");
  });

  test.each([
    ["ended by a signal", ["sh", "-c", "kill -9 $$"], 137, ""],
    ["that is not there", ["/no/such/command"], 127, "/no/such/command: command not found"],
    ["that is none", [tmpdir()], 126, "EACCES"],
  ])(
    "a command %s has the exit code that shells have for it",
    async (_, command, code, message) => {
      const run = sessiond(["lock", "run", "codes", "--", ...command]);
      expect(await run.ended).toBe(code);
      expect(run.stderr).toContain(message);
    },
  );

  test("commands under one lock never overlap, and their tokens grow", async () => {
    const log = file("overlap");
    const line = `echo "begin $SESSIOND_FENCING_TOKEN" >> ${log}; sleep 0.1; echo end >> ${log}`;
    const runs = Array.from({ length: 6 }, () => underLock("overlap", ["--ttl=5s"], line));
    expect(await Promise.all(runs.map(({ ended }) => ended))).toEqual(runs.map(() => 0));
    const lines = linesOf(log);
    expect(lines).toHaveLength(12);
    const tokens = lines.filter((_, i) => i % 2 === 0).map((begin) => Number(begin.slice(6)));
    expect(lines.filter((_, i) => i % 2 === 1)).toEqual(runs.map(() => "end"));
    expect(tokens).toEqual(tokens.toSorted((a, b) => a - b));
    expect(new Set(tokens).size).toBe(6);
  });

  test("a command may take longer than the ttl, for the lease is renewed", async () => {
    const [begun, finish] = [file("begun-long"), file("finish-long")];
    const line = `echo > ${begun}; while [ ! -e ${finish} ]; do sleep 0.1; done; echo done`;
    const long = underLock("renewed", ["--ttl=1500ms"], line);
    await written(begun);
    await sleep(3_500);
    const other = underLock("renewed", ["--wait-timeout=0s"], "echo overlap");
    expect(await other.ended).toBe(75);
    expect(other.stderr).toBe('sessiond: the lock "renewed" could not be had in time\n');
    writeFileSync(finish, "");
    expect(await long.ended).toBe(0);
    expect(long.stdout).toBe("done\n");
  });

  test("a kill frees the lock once its ttl is over, and the next has a higher token", async () => {
    const pids = file("killed");
    const line = `echo "$$ $SESSIOND_FENCING_TOKEN" >> ${pids}`;
    const killed = underLock("killed", ["--ttl=2s"], `${line}; sleep 60`);
    const [first] = await written(pids);
    const killMs = performance.now();
    killed.kill("SIGKILL");
    const next = underLock("killed", ["--ttl=2s"], line);
    expect(await next.ended).toBe(0);
    expect(performance.now() - killMs).toBeGreaterThan(1_000);
    const [pid, token] = (first ?? "").split(" ");
    endGroup(pid);
    expect(Number(linesOf(pids)[1]?.split(" ")[1])).toBeGreaterThan(Number(token));
  });

  test.each(["SIGINT", "SIGTERM"] as const)(
    "passes %s on, and waits for the command",
    async (signal) => {
      const begun = file(`begun-${signal}`);
      const line = `trap 'kill $!; echo caught; exit 3' ${signal.slice(3)}; echo > ${begun}; sleep 30 & wait`;
      const run = underLock(`signal-${signal}`, [], line);
      await written(begun);
      run.kill(signal);
      expect(await run.ended).toBe(3);
      expect(run.stdout).toBe("caught\n");
      // Given back and not left to end by itself.
      expect(await underLock(`signal-${signal}`, ["--wait-timeout=0s"], "exit 0").ended).toBe(0);
    },
  );

  test("a signal ends the wait for a lock", async () => {
    // Takes the call and never answers.
    const busy = createServer().listen(0, "127.0.0.1");
    await once(busy, "listening");
    const { port } = busy.address() as AddressInfo;
    const args = ["lock", "run", "waiting", "--wait-timeout=1h", "--", "echo", "overlap"];
    await using waiting = sessiond(args, `http://127.0.0.1:${port}`);
    const [request] = await once(busy, "request");
    expect(request.url).toBe("/sessiond.v1.LockService/AcquireLock");
    waiting.kill("SIGINT");
    expect(await waiting.ended).toBe(130);
    expect(waiting.stdout).toBe("");
    busy.close();
  });

  test("ends the command, by force if need be, when the lease cannot be renewed any more", async () => {
    await using doomed = await startServer();
    const begun = [file("lost-1"), file("lost-2")] as const;
    const start = (name: string, line: string) =>
      sessiond(["lock", "run", name, "--ttl=1s", "--", "sh", "-c", line], doomed.grpcUrl);
    const polite = start("lost-1", `echo > ${begun[0]}; sleep 60`);
    const stubborn = start("lost-2", `trap '' TERM; echo > ${begun[1]}; sleep 60; sleep 60`);
    await Promise.all(begun.map((path) => written(path)));
    const killMs = performance.now();
    doomed.kill("SIGKILL");
    expect(await polite.ended).toBe(1);
    expect(polite.stderr).toContain("sessiond: the lock is lost: ending the command\n");
    expect(polite.stderr).toContain('the lock "lost-1" is lost: its lease could not be renewed');
    expect(await stubborn.ended).toBe(1);
    expect(performance.now() - killMs).toBeGreaterThan(10_000);
  });

  test("says so where the server is not there, and does not run the command", async () => {
    const args = ["lock", "run", "x", "--wait-timeout=0s", "--", "echo", "overlap"];
    const run = sessiond(args, "http://127.0.0.1:1");
    expect(await run.ended).toBe(69);
    expect(run.stdout).toBe("");
    expect(run.stderr).toMatch(/ECONNREFUSED.*\(UNAVAILABLE\)/);
  });
});

test("a development key that is not the server's is named, with the way out", async () => {
  const elsewhere = file("elsewhere");
  const made = sessiond(["token", "--permissions=locks:use", "--data-dir", elsewhere]);
  expect(await made.ended).toBe(0);
  const foreign = ["--data-dir", elsewhere];
  const runs = [
    sessiond(["lock", "run", "x", ...foreign, "--", "true"]),
    sessiond(["rate-limit", "check", "login", "x", ...foreign]),
  ];
  for (const run of runs) {
    expect(await run.ended).toBe(69);
    expect(run.stderr).toContain("(UNAUTHENTICATED)\n");
    expect(run.stderr).toContain(`development key in ${elsewhere}`);
    expect(run.stderr).toContain("--data-dir");
  }
});

describe("sessiond rate-limit", () => {
  test("counts an attempt, refuses one too many, and forgets them", async () => {
    const call = async (...args: readonly string[]) => {
      const run = sessiond(["rate-limit", ...args]);
      const code = await run.ended;
      return [code, run.stdout.trim(), run.stderr];
    };
    const key = "203.0.113.7";
    expect(await call("check", "login", key)).toEqual([
      ...[0, "allowed: limit 10, remaining 9, retry after 0s", ""],
    ]);
    expect(await call("check", "once", key)).toEqual([
      ...[0, "allowed: limit 1, remaining 0, retry after 0s", ""],
    ]);
    expect(await call("check", "once", key)).toEqual([
      ...[1, expect.stringMatching(/^refused: limit 1, remaining 0, retry after 59m5\d/), ""],
    ]);
    expect(await call("reset", "once", key)).toEqual([0, "", ""]);
    expect((await call("check", "once", key))[0]).toBe(0);
    expect(await call("check", "unheard-of", key)).toEqual([
      ...[2, "", expect.stringContaining("there is no policy")],
    ]);
  });
});
