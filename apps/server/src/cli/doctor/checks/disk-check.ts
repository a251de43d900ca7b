import { constants, existsSync } from "node:fs";
import { access, statfs } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { withoutSecrets } from "@sessiond/core";
import { RESERVE_BYTES } from "@sessiond/core/sqlite";
import { reasonOf } from "../probes/reason-of.js";
import { type Check, type Finding, fault, type Subject, warning } from "./check.js";
import { formatBytes } from "./texts.js";

/** Below it a busy server is soon out of room, for its log as well. */
const LITTLE_ROOM_BYTES = 16 * RESERVE_BYTES;

/** The files that the server writes can be written, and their disks have room. */
export const diskCheck: Check = async ({ config }) => {
  const files = writtenFiles(config);
  if (files.length === 0) return undefined;
  const looked = await Promise.all(files.map(look));
  return {
    summary: looked.map(({ text }) => text).join(", "),
    findings: looked.flatMap(({ findings }) => findings),
  };
};

function writtenFiles({ storeConfig, values }: Subject["config"]): readonly string[] {
  const store = storeConfig?.store;
  return [
    ...(store?.kind === "sqlite" && store.path !== ":memory:" ? [store.path] : []),
    ...(typeof values.auditLog === "object" ? [values.auditLog.file] : []),
  ];
}

async function look(file: string): Promise<{ text: string; findings: readonly Finding[] }> {
  const folder = dirname(file);
  try {
    // SQLite makes files beside its own.
    await access(folder, constants.W_OK | constants.X_OK);
    if (existsSync(file)) await access(file, constants.R_OK | constants.W_OK);
    const { bavail, bsize } = await statfs(folder);
    const room = bavail * bsize;
    const text = `${formatBytes(room)} free in ${folder}`;
    if (room >= LITTLE_ROOM_BYTES) return { text, findings: [] };
    const remedy = "Give it room; docs/sqlite.md, “A full disk”, says what works meanwhile.";
    const finding =
      room < RESERVE_BYTES
        ? fault(`The disk is full: there are ${text}.`, remedy)
        : warning(`The disk is almost full: there are ${text}.`, remedy);
    return { text, findings: [finding] };
  } catch (error) {
    // A missing folder is a fault of the settings, or the server makes it.
    if (hasCode(error, "ENOENT")) {
      // It may be a part of a secret that was given for a file.
      return { text: `${withoutSecrets(folder)} does not exist yet`, findings: [] };
    }
    const shown = join(folder, withoutSecrets(basename(file)));
    const problem = `The server cannot write ${shown}: ${reasonOf(error)}.`;
    const remedy = "Let the server's user write file and folder, on a disk that is mounted for it.";
    return { text: shown, findings: [fault(problem, remedy)] };
  }
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
