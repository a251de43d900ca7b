import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";

// Holds the write lock of a file for some milliseconds, and says when it has it.

const [path = "", ms = "0"] = process.argv.slice(2);
using db = new DatabaseSync(path);
db.exec("BEGIN IMMEDIATE");
process.stdout.write("locked\n");
await sleep(Number(ms));
db.exec("COMMIT");
