import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import type { Fault, FaultyStores } from "./fault-run.js";
import { SqliteProcess } from "./sqlite-process.js";

/** Two servers' SQLite stores, each in a process of its own, on one file. */
export async function startFaultySqlite(): Promise<FaultyStores> {
  await using stack = new AsyncDisposableStack();
  const dir = await mkdtemp(join(tmpdir(), "sessiond-history-"));
  stack.defer(() => rm(dir, { recursive: true, force: true }));
  const path = join(dir, "sessions.db");
  const processes = [
    stack.use(await SqliteProcess.start(path)),
    stack.use(await SqliteProcess.start(path)),
  ];
  const opened = stack.move();
  return {
    stores: processes.map(({ store }) => store),
    // One at a time: a file that is locked for longer than a server waits cannot be opened.
    faults: [[...processes.flatMap(faultsOf), lockedByAnother(path)]],
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

function faultsOf(process: SqliteProcess, index: number): Fault[] {
  const server = `server ${index + 1}`;
  return [
    { name: `${server} is killed and started anew`, inflict: () => process.restart() },
    {
      name: `${server} closes the file and opens it again`,
      // Where another program has the file locked for long, it starts anew.
      inflict: () => process.reopen().catch(() => process.restart()),
    },
    {
      name: `${server} is frozen`,
      async inflict(durationMs) {
        process.freeze();
        await sleep(durationMs);
        process.thaw();
      },
    },
  ];
}

/** Somebody has a transaction open, in a shell say. */
function lockedByAnother(path: string): Fault {
  return {
    name: "another program holds the lock",
    async inflict(durationMs) {
      using db = new DatabaseSync(path, { timeout: 0 });
      try {
        db.exec("BEGIN IMMEDIATE");
      } catch {
        // A frozen server may hold it, which is the same to the others.
        return;
      }
      await sleep(durationMs);
      db.exec("COMMIT");
    },
  };
}
