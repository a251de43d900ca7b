import { hash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { gzip } from "node:zlib";

/** The build puts the page here. */
const DIRECTORY = fileURLToPath(new URL("../../dist/console/", import.meta.url));

const TYPES: Readonly<Record<string, string>> = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
};

/** A file of the console, as it is sent. */
export interface ConsoleFile {
  readonly type: string;
  readonly body: Buffer;
  readonly gzipped: Buffer;
  /** Weak (RFC 9110, 8.8.1), because it is the same for both encodings. */
  readonly etag: string;
  /** Whether the name changes with the contents, so that browsers need not ask again. */
  readonly isHashed: boolean;
}

/**
 * Reads the console's files, less than a megabyte, to keep in memory. Answers each by its path
 * below `/console/`. Rejects if the page was not built.
 */
export async function readConsoleFiles(): Promise<ReadonlyMap<string, ConsoleFile>> {
  const names = await readdir(DIRECTORY, { recursive: true }).catch((cause: unknown) => {
    throw new Error(`the console is not in ${DIRECTORY}; run \`pnpm build\``, { cause });
  });
  const served = names.filter((name) => TYPES[extname(name)] !== undefined);
  return new Map(
    await Promise.all(
      served.map(
        async (name) => [name.replaceAll("\\", "/"), await readConsoleFile(name)] as const,
      ),
    ),
  );
}

async function readConsoleFile(name: string): Promise<ConsoleFile> {
  const body = await readFile(join(DIRECTORY, name));
  return {
    type: TYPES[extname(name)] ?? "",
    body,
    gzipped: await promisify(gzip)(body, { level: 9 }),
    etag: `W/"${hash("sha256", body, "base64url")}"`,
    isHashed: name.startsWith("assets"),
  };
}
