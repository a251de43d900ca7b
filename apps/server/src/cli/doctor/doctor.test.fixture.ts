import { once } from "node:events";
import { chmod, utimes, writeFile } from "node:fs/promises";
import { type AddressInfo, connect, createServer } from "node:net";
import { join } from "node:path";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { Keyring, parseDuration, Sessions } from "@sessiond/core";
import { connectRedis, type RedisLocation } from "@sessiond/core/redis";
import {
  freePort,
  type RedisServer,
  startRedisServer,
  type TestAuthority,
} from "@sessiond/core/testing";
import { pino } from "pino";
import { expect, vi } from "vitest";
import { parseStoreLocation } from "../../config/store-location.js";
import { openStores } from "../../daemon/open-stores.js";
import { outcomeOf } from "../../testing/command-outcome.js";
import { temporaryDirectory } from "../../testing/temporary-directory.js";
import type { TestIssuer } from "../../testing/test-issuer.js";
import { startTestIssuer } from "../../testing/test-server.js";
import { doctorCommand } from "./doctor-command.js";
import { runDoctor } from "./run-doctor.js";

/** As docs/operations.md wants Redis. */
export const WELL_SET = ["--maxmemory", "64mb", "--appendonly", "yes"];

/** A finding, and the check that it is of. */
export interface Found {
  readonly check: string;
  readonly severity: string;
  readonly problem: string;
  readonly remedy: string;
}

/** A server's settings and surroundings, in which nothing is wrong until a test plants something. */
export class Ground implements AsyncDisposable {
  readonly opened: AsyncDisposableStack;
  readonly directory: string;
  readonly authority: TestAuthority;
  readonly issuer: TestIssuer;
  readonly redis: RedisServer;
  readonly keyringText: string;
  /** The environment of the server. */
  readonly env: Record<string, string> = {};

  private constructor(
    opened: AsyncDisposableStack,
    things: Pick<Ground, "directory" | "authority" | "issuer" | "redis">,
  ) {
    this.opened = opened;
    this.directory = things.directory;
    this.authority = things.authority;
    this.issuer = things.issuer;
    this.redis = things.redis;
    this.keyringText = Keyring.generateKey("now");
  }

  static async open(authority: TestAuthority): Promise<Ground> {
    const opened = new AsyncDisposableStack();
    const { path: directory } = opened.use(await temporaryDirectory());
    const issuer = opened.adopt(await startTestIssuer(), (started) => started.close());
    const redis = opened.use(await startRedisServer({ args: WELL_SET }));
    const ground = new Ground(opened, { directory, authority, issuer, redis });
    await ground.#settle();
    return ground;
  }

  async #settle(): Promise<void> {
    const { cert, key } = this.authority.issue({ days: 90 });
    await chmod(key, 0o600);
    Object.assign(this.env, {
      SESSIOND_GRPC_ADDRESS: `127.0.0.1:${await freePort()}`,
      SESSIOND_HTTP_ADDRESS: `127.0.0.1:${await freePort()}`,
      SESSIOND_TLS_CERT: cert,
      SESSIOND_TLS_KEY: key,
      SESSIOND_STORE: this.redis.url,
    });
    await this.keyring(this.keyringText);
    await this.auth({});
    await this.login(this.keyringText);
  }

  /** Puts the keyring into a file of this mode and age. */
  async keyring(text: string, { mode = 0o600, age = "1d" } = {}): Promise<void> {
    const path = await this.file("keyring", text, mode);
    const time = new Date(Date.now() - parseDuration(age));
    await utimes(path, time, time);
    this.env["SESSIOND_KEYRING_FILE"] = path;
  }

  /** Writes the auth file, with what is different about the issuer. */
  async auth(issuer: object, mode = 0o644): Promise<void> {
    const usual = { issuer: this.issuer.url, audience: "sessiond", algorithms: ["ES256"] };
    const text = JSON.stringify({ issuers: [{ ...usual, ...issuer }] });
    this.env["SESSIOND_AUTH"] = await this.file("auth.json", text, mode);
  }

  async file(name: string, text: string, mode = 0o600): Promise<string> {
    const path = join(this.directory, name);
    await writeFile(path, text);
    await chmod(path, mode);
    return path;
  }

  /** Makes a session in the store, sealed under the first key. */
  async login(keyringText: string): Promise<void> {
    const store = parseStoreLocation(this.env["SESSIOND_STORE"] ?? "");
    const config = { store, retentionMs: 600_000, durability: "auto", keyPrefix: "sessiond:" };
    const stores = await openStores({ ...config, durability: "auto" }, pino({ level: "silent" }));
    const sessions = new Sessions({
      store: stores.sessions,
      keyring: Keyring.parse(keyringText),
    });
    // A slow machine may still be connecting.
    await vi.waitFor(() => stores.sessions.check(), { timeout: 15_000 });
    await sessions.create({ userId: "ann" });
    await stores.close();
  }

  /** Another Redis, with these arguments besides what it should have. */
  async startRedis(...args: readonly string[]): Promise<RedisServer> {
    const redis = this.opened.use(await startRedisServer({ args: [...WELL_SET, ...args] }));
    this.env["SESSIOND_STORE"] = redis.url;
    return redis;
  }

  /** Has the answers of Redis changed on their way. Redis itself cannot be so old, or so late. */
  async rewriteAnswers(rewrite: (text: string) => string): Promise<void> {
    const relay = createServer(async (client) => {
      const redis = connect(this.redis.port, "127.0.0.1");
      const change = new Transform({
        transform: (chunk: Buffer, _, done) =>
          done(null, Buffer.from(rewrite(chunk.toString("latin1")), "latin1")),
      });
      await Promise.allSettled([pipeline(client, redis), pipeline(redis, change, client)]);
    }).listen(0, "127.0.0.1");
    this.opened.defer(() => void relay.close());
    await once(relay, "listening");
    this.env["SESSIOND_STORE"] = `redis://127.0.0.1:${(relay.address() as AddressInfo).port}`;
  }

  /** Runs doctor. Its output never has a secret. */
  async diagnose(
    ...flags: readonly string[]
  ): Promise<{ readonly code: number; readonly found: readonly Found[] }> {
    const doctor = doctorCommand(runDoctor);
    const { code, stdout } = await outcomeOf(doctor, ["--json", ...flags], this.env);
    for (const secret of ["hunter2", this.keyringText.split(":")[1] ?? ""]) {
      expect(stdout).not.toContain(secret);
    }
    const lines = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    const found = lines.flatMap(({ check, findings = [] }) =>
      findings.map((finding: object) => ({ check, ...finding })),
    );
    return { code, found };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.opened.disposeAsync();
  }
}

/** Talks to Redis as its operator. */
export async function asOperator<T>(
  url: string,
  task: (redis: ReturnType<typeof connectRedis>) => Promise<T>,
): Promise<T> {
  const redis = connectRedis(parseStoreLocation(url) as RedisLocation, () => {});
  try {
    await once(redis, "ready");
    return await task(redis);
  } finally {
    redis.disconnect();
  }
}
