import { constants } from "node:fs";
import { access, statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { RESERVE_BYTES } from "@sessiond/core/sqlite";
import { reasonOf } from "../probes/reason-of.js";
import { type Check, type Finding, fault, type Subject, warning } from "./check.js";
import { formatBytes } from "./texts.js";

/** Below it a busy server is soon out of room, for its log as well. */
const LITTLE_ROOM_BYTES = 16 * RESERVE_BYTES;

/** The folders that the server writes to can be written to, and have room. */
export const diskCheck: Check = async ({ config }) => {
  const folders = foldersOf(config);
  if (folders.length === 0) return undefined;
  const looked = await Promise.all(folders.map(look));
  return {
    summary: looked.map(({ text }) => text).join(", "),
    findings: looked.flatMap(({ findings }) => findings),
  };
};

/** A folder that is missing is a fault of the settings, or the server makes it. */
function foldersOf({ storeConfig, values }: Subject["config"]): readonly string[] {
  const store = storeConfig?.store;
  const folders = [
    ...(store?.kind === "sqlite" && store.path !== ":memory:" ? [dirname(store.path)] : []),
    ...(typeof values.auditLog === "object" ? [dirname(values.auditLog.file)] : []),
  ];
  return [...new Set(folders)];
}

async function look(folder: string): Promise<{ text: string; findings: readonly Finding[] }> {
  try {
    await access(folder, constants.W_OK | constants.X_OK);
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
    if (hasCode(error, "ENOENT")) return { text: `${folder} does not exist yet`, findings: [] };
    const problem = `The server cannot write to ${folder}: ${reasonOf(error)}.`;
    const remedy = "Let the server's user write there, on a disk that is mounted for writing.";
    return { text: folder, findings: [fault(problem, remedy)] };
  }
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
