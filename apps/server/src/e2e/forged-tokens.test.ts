import { randomBytes } from "node:crypto";
import { crc32 } from "node:zlib";
import { describe, expect, test } from "vitest";
import { failureIn, SESSION_NOT_FOUND } from "../testing/outcome.js";
import { clientOver, GRPC } from "../testing/protocols.js";
import { newSession } from "../testing/session-requests.js";
import { useTestServer } from "../testing/test-server.js";
import { STORES } from "../testing/test-stores.js";

const PREFIX = "sst_";
const BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/** The bytes of a token: the version, 32 of the secret, 4 of the checksum, and the id. */
const SECRET_START = 1;
const CHECKSUM_START = 33;
const ID_START = 37;
const MAX_BATCH_SIZE = 1000;

describe.each(STORES)("on $name", ({ open }) => {
  const client = clientOver(GRPC, useTestServer({ open }));

  /** Every one of these is answered like a session that never was. */
  async function expectNotFound(tokens: readonly string[]): Promise<void> {
    for (let i = 0; i < tokens.length; i += MAX_BATCH_SIZE) {
      const batch = tokens.slice(i, i + MAX_BATCH_SIZE);
      const { results } = await client.batchVerifySessions({ tokens: batch });
      expect(results).toHaveLength(batch.length);
      for (const result of results) expect(failureIn(result)).toEqual(SESSION_NOT_FOUND);
    }
  }

  test.each([
    ["a generated id", ""],
    ["a chosen id", "jti-4711"],
  ])("a token for %s with any one character changed proves no session", async (_, chosenId) => {
    const { session, token } = await newSession(client, { sessionId: chosenId });
    const changed = [...token].flatMap((original, i) =>
      [...BASE64URL, "+", "/", "=", " ", "é"]
        .filter((character) => character !== original)
        .map((character) => token.slice(0, i) + character + token.slice(i + 1)),
    );
    await expectNotFound(changed);
    expect((await client.verifySession({ token })).session?.userId).toBe(session.userId);
  });

  test("a token cut, extended or spelled otherwise proves no session", async () => {
    const { token } = await newSession(client);
    const positions = [...token].map((_, i) => i);
    await expectNotFound([
      ...positions.slice(1).map((i) => token.slice(0, i)),
      ...positions.slice(1).map((i) => token.slice(i)),
      ...positions.map((i) => `${token.slice(0, i)}A${token.slice(i)}`),
      ...positions.map((i) => token.slice(0, i) + token.slice(i + 1)),
      ...[token + token, `${token}=`, `${token}\n`, ` ${token}`],
      ...[token.toLowerCase(), token.toUpperCase(), token.slice(PREFIX.length)],
      "A".repeat(1024 * 1024),
    ]);
  });

  test("a token with another secret proves no session, though its checksum is right", async () => {
    const { token } = await newSession(client);
    const bytes = bytesOf(token);
    expect(withChecksum(bytes)).toBe(token);
    const flipped = Array.from({ length: 32 * 8 }, (_, bit) => {
      const other = Buffer.from(bytes);
      const at = SECRET_START + Math.floor(bit / 8);
      other[at] = (other[at] ?? 0) ^ (1 << (bit % 8));
      return withChecksum(other);
    });
    const random = Buffer.from(bytes);
    random.set(randomBytes(32), SECRET_START);
    const empty = Buffer.from(bytes).fill(0, SECRET_START, CHECKSUM_START);
    await expectNotFound([...flipped, withChecksum(random), withChecksum(empty)]);
  });

  test("a token made up, put together from others, or of another version proves no session", async () => {
    const ann = bytesOf((await newSession(client)).token);
    const bob = bytesOf((await newSession(client)).token);
    const chosen = bytesOf((await newSession(client, { sessionId: "chosen" })).token);
    const swap = (secretOf: Buffer, idOf: Buffer, version = idOf[0] ?? 0) => {
      const secret = secretOf.subarray(SECRET_START, ID_START);
      return withChecksum(Buffer.concat([Buffer.of(version), secret, idOf.subarray(ID_START)]));
    };
    // The token of a chosen id names the partition, too.
    const elsewhere = (partition: number) => {
      const other = Buffer.from(chosen);
      other[ID_START] = partition;
      return withChecksum(other);
    };
    const bytes = Array.from({ length: 256 }, (_, byte) => byte);
    expect(swap(ann, ann)).toBe(`${PREFIX}${ann.toString("base64url")}`);
    expect(elsewhere(chosen[ID_START] ?? 0)).toBe(`${PREFIX}${chosen.toString("base64url")}`);
    await expectNotFound([
      ...[swap(ann, bob), swap(bob, ann), swap(ann, chosen), swap(chosen, ann)],
      ...bytes.filter((version) => version !== ann[0]).map((version) => swap(ann, ann, version)),
      ...bytes.filter((version) => version !== chosen[0]).map((v) => swap(chosen, chosen, v)),
      ...bytes.filter((partition) => partition !== chosen[ID_START]).map(elsewhere),
      // Nothing was ever kept under these.
      ...bytes.map(() => withChecksum(Buffer.concat([Buffer.of(1), randomBytes(68)]))),
    ]);
  });
});

function bytesOf(token: string): Buffer {
  return Buffer.from(token.slice(PREFIX.length), "base64url");
}

/** The token of these bytes, with the checksum that belongs to them. */
function withChecksum(bytes: Buffer): string {
  const checked = Buffer.from(bytes);
  const checksum = crc32(bytes.subarray(ID_START), crc32(bytes.subarray(0, CHECKSUM_START)));
  checked.writeUInt32BE(checksum, CHECKSUM_START);
  return PREFIX + checked.toString("base64url");
}
