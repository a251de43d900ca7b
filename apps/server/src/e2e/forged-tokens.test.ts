import { randomBytes } from "node:crypto";
import { crc32 } from "node:zlib";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { ErrorInfoSchema } from "@sessiond/proto/google/rpc/error_details";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { clientOver, GRPC, type SessionServiceClient } from "../testing/protocols.js";
import { startTestServer, type TestServer } from "../testing/test-server.js";
import { STORES } from "../testing/test-stores.js";

const PREFIX = "sst_";
const BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/** Of a token's bytes: the version, 32 of the secret, 4 of the checksum, and the id. */
const SECRET_START = 1;
const CHECKSUM_START = 33;
const ID_START = 37;
const MAX_BATCH_SIZE = 1000;

describe.each(STORES)("on $name", ({ open }) => {
  const opened = new AsyncDisposableStack();
  let server: TestServer;
  let client: SessionServiceClient;

  beforeAll(async () => {
    const store = opened.use(await open());
    server = opened.use(await startTestServer({ store: store.url }));
    client = clientOver(GRPC, server);
  });
  afterAll(() => opened.disposeAsync());

  /** Every one of these is as good as a session that never was. */
  async function expectNotFound(tokens: readonly string[]): Promise<void> {
    const answers = new Set<string>();
    for (let i = 0; i < tokens.length; i += MAX_BATCH_SIZE) {
      const batch = tokens.slice(i, i + MAX_BATCH_SIZE);
      const { results } = await client.batchVerifySessions({ tokens: batch });
      expect(results).toHaveLength(batch.length);
      for (const { result } of results) {
        if (result.case !== "error") throw new Error("a forged token was accepted");
        const { code, message, details } = result.value;
        const reasons = details.map((detail) => anyUnpack(detail, ErrorInfoSchema)?.reason);
        answers.add(`${code} ${message} ${reasons}`);
      }
    }
    expect([...answers]).toEqual(["5 session not found SESSION_NOT_FOUND"]);
  }

  test.each([
    ["a generated id", ""],
    ["a chosen id", "jti-4711"],
  ])("a token for %s with any one character changed proves no session", async (_, sessionId) => {
    const { token } = await client.createSession({ userId: "ann", sessionId });
    await expectNotFound(
      [...token].flatMap((original, i) =>
        [...BASE64URL, "+", "/", "=", " ", "é"]
          .filter((character) => character !== original)
          .map((character) => token.slice(0, i) + character + token.slice(i + 1)),
      ),
    );
    expect((await client.verifySession({ token })).session?.userId).toBe("ann");
  });

  test("a token cut, extended or spelled otherwise proves no session", async () => {
    const { token } = await client.createSession({ userId: "ann" });
    const characters = [...token];
    await expectNotFound([
      ...characters.slice(1).map((_, i) => token.slice(0, i + 1)),
      ...characters.slice(1).map((_, i) => token.slice(i + 1)),
      ...characters.map((_, i) => `${token.slice(0, i)}A${token.slice(i)}`),
      ...characters.map((_, i) => token.slice(0, i) + token.slice(i + 1)),
      token + token,
      `${token}=`,
      `${token}\n`,
      ` ${token}`,
      token.toLowerCase(),
      token.toUpperCase(),
      token.slice(PREFIX.length),
      "A".repeat(1024 * 1024),
    ]);
  });

  test("a token with another secret proves no session, though its checksum is right", async () => {
    const { token } = await client.createSession({ userId: "ann" });
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

  test("a token put together from others, or of another version, proves no session", async () => {
    const [ann, bob, chosen] = [
      bytesOf((await client.createSession({ userId: "ann" })).token),
      bytesOf((await client.createSession({ userId: "bob" })).token),
      bytesOf((await client.createSession({ userId: "ann", sessionId: "chosen" })).token),
    ];
    const swap = (secretOf: Buffer, idOf: Buffer, version = idOf[0] ?? 0) =>
      withChecksum(
        Buffer.concat([
          Buffer.from([version]),
          secretOf.subarray(SECRET_START, ID_START),
          idOf.subarray(ID_START),
        ]),
      );
    expect(swap(ann, ann)).toBe(`${PREFIX}${ann.toString("base64url")}`);
    await expectNotFound([
      swap(ann, bob),
      swap(bob, ann),
      swap(ann, chosen),
      swap(chosen, ann),
      ...[0, 1, 2, 3, 255]
        .filter((version) => version !== 1)
        .map((version) => swap(ann, ann, version)),
      ...[0, 1, 3, 255].map((version) => swap(chosen, chosen, version)),
      // A chosen id's token names the partition, too; only the right one is right.
      ...Array.from({ length: 256 }, (_, partition) => partition)
        .filter((partition) => partition !== chosen[ID_START])
        .map((partition) => {
          const elsewhere = Buffer.from(chosen);
          elsewhere[ID_START] = partition;
          return withChecksum(elsewhere);
        }),
    ]);
  });

  test("a token under which nothing was ever kept proves no session", async () => {
    const made = Array.from({ length: 100 }, () =>
      withChecksum(Buffer.concat([Buffer.from([1]), randomBytes(68)])),
    );
    await expectNotFound(made);
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
