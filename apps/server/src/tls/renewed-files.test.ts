import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  copyFileSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type IssuedFiles, TestAuthority } from "@sessiond/core/testing";
import { afterAll, expect, test, vi } from "vitest";
import { checkPemFiles } from "./pem-files.js";
import { readPemFiles } from "./read-pem-files.js";
import { RenewedFiles } from "./renewed-files.js";

const authority = new TestAuthority();
afterAll(() => authority[Symbol.dispose]());
const first = authority.issue();

interface Paths extends IssuedFiles {
  readonly ca: string;
}

/** Files in use, and what is heard of their changes. */
async function openFiles() {
  const directory = mkdtempSync(join(authority.directory, "own-"));
  const paths: Paths = {
    cert: join(directory, "tls.crt"),
    key: join(directory, "tls.key"),
    ca: join(directory, "ca.crt"),
  };
  const copy = (issued: IssuedFiles) => {
    copyFileSync(issued.cert, paths.cert);
    copyFileSync(issued.key, paths.key);
  };
  copy(first);
  copyFileSync(authority.ca, paths.ca);
  const refused: string[] = [];
  const renewed: string[] = [];
  const files = await RenewedFiles.open(paths, {
    onRefused: ({ file, message }) => refused.push(`${file}: ${message}`),
    onRenewed: ({ certificate }) => renewed.push(certificate?.serialNumber ?? ""),
  });
  return { paths, copy, files, refused, renewed, [Symbol.dispose]: () => files.close() };
}

const BAD: Record<string, readonly [(paths: Paths) => void, RegExp]> = {
  "an incomplete certificate": [
    ({ cert }) => writeFileSync(cert, readFileSync(cert).subarray(0, 300)),
    /^cert: .*certificate 1 of 1 is incomplete or damaged$/,
  ],
  "an incomplete chain": [
    ({ cert, ca }) => appendFileSync(cert, readFileSync(ca).subarray(0, 300)),
    /^cert: .*certificate 2 of 2 is incomplete or damaged$/,
  ],
  "no certificate": [({ cert }) => writeFileSync(cert, "x"), /^cert: expected certificates in PEM/],
  "no file": [({ cert }) => rmSync(cert), /^cert: cannot read it: ENOENT/],
  "a huge file": [
    ({ cert }) => writeFileSync(cert, "x".repeat(2_000_000)),
    /^cert: expected at most/,
  ],
  "an incomplete key": [
    ({ key }) => writeFileSync(key, readFileSync(key).subarray(0, 100)),
    /^key: expected a private key in PEM/,
  ],
  "an encrypted key": [
    ({ key }) => {
      const encrypt = ["pkey", "-aes256", "-passout", "pass:x"];
      writeFileSync(key, execFileSync("openssl", [...encrypt, "-in", key]));
    },
    /^key: expected a key that is not encrypted; decrypt it with openssl pkey/,
  ],
  "another's key": [
    ({ key }) => copyFileSync(authority.issue().key, key),
    /^key: expected the key of the first certificate/,
  ],
  "no authority": [({ ca }) => writeFileSync(ca, ""), /^ca: expected certificates in PEM/],
};

test.each(Object.entries(BAD))(
  "%s is refused once, and the old files stay",
  async (_, [spoil, fault]) => {
    using own = await openFiles();
    const { inUse } = own.files;
    spoil(own.paths);
    for (let i = 0; i < 3; i++) await own.files.reload();
    expect(own.refused).toEqual([expect.stringMatching(fault)]);
    expect(own.files.inUse).toBe(inUse);
  },
);

test("a certificate is valid up to the second of its end, and from that of its beginning", async () => {
  const files = await readPemFiles(authority.issue());
  const certificate = checkPemFiles(files, Date.now());
  const [fromMs, toMs] = [certificate?.validFromDate, certificate?.validToDate].map(Number);
  for (const nowMs of [fromMs, toMs]) checkPemFiles(files, Number(nowMs));
  expect(() => checkPemFiles(files, Number(fromMs) - 1)).toThrow(/^it is not valid before /);
  expect(() => checkPemFiles(files, Number(toMs) + 1)).toThrow(/^it has expired on /);
});

test("files that are written one after the other are judged when they are complete", async () => {
  using own = await openFiles();
  const next = authority.issue();
  copyFileSync(next.cert, own.paths.cert);
  // As long as from one read to the next, so that one falls between the files.
  await sleep(1_000);
  copyFileSync(next.key, own.paths.key);
  await vi.waitFor(() => expect(own.renewed).toHaveLength(1), { timeout: 5_000 });
  expect(own.refused).toEqual([]);
});

test("the same fault is told again after the files were right", async () => {
  using own = await openFiles();
  const right = readFileSync(own.paths.cert);
  for (const content of ["", right, "", right]) {
    writeFileSync(own.paths.cert, content);
    await own.files.reload();
  }
  expect(own.refused).toHaveLength(2);
});
