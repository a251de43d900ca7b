import { readFile } from "node:fs/promises";
import { PemFault, type PemFiles, type PemPaths } from "./pem-files.js";

/** No chain of certificates is longer. It keeps a wrong path from filling the memory. */
const MAX_FILE_BYTES = 1024 * 1024;

/** Reads all files. Rejects with a PemFault if one cannot be read. */
export async function readPemFiles(paths: PemPaths): Promise<PemFiles> {
  const names = Object.keys(paths) as (keyof PemPaths)[];
  const files = await Promise.all(names.map(async (name) => [name, await read(name, paths[name])]));
  return Object.fromEntries(files);
}

async function read(name: keyof PemFiles, path = ""): Promise<Buffer> {
  let content: Buffer;
  try {
    content = await readFile(path);
  } catch (error) {
    throw new PemFault(name, `cannot read it: ${error instanceof Error ? error.message : error}`);
  }
  if (content.length <= MAX_FILE_BYTES) return content;
  throw new PemFault(name, `expected at most ${MAX_FILE_BYTES} bytes`);
}
