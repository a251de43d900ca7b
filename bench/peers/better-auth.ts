// A peer: better-auth's `get-session` with Redis as its secondary storage, where it then keeps the
// sessions, and users in SQLite. `POST /sessions?n=` logs the n-th user in.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { DatabaseSync } from "node:sqlite";
import { betterAuth } from "better-auth";
import { getMigrations } from "better-auth/db/migration";
import { toNodeHandler } from "better-auth/node";
import { Redis } from "ioredis";
import { contentOf } from "../session-content.ts";

const [redisUrl = ""] = process.argv.slice(2);
const redis = new Redis(redisUrl, { keyPrefix: "better-auth:" });
const { displayName: _, client, ...rest } = contentOf(0);

const auth = betterAuth({
  baseURL: "http://127.0.0.1",
  secret: "a secret that signs cookies and is long enough",
  database: new DatabaseSync(":memory:"),
  secondaryStorage: {
    get: (key) => redis.get(key),
    getAndDelete: (key) => redis.getdel(key),
    increment: async (key, ttl) => {
      const count = await redis.incr(key);
      if (count === 1) await redis.expire(key, ttl);
      return count;
    },
    set: async (key, value, ttl) => {
      await (ttl === undefined ? redis.set(key, value) : redis.set(key, value, "EX", ttl));
    },
    delete: async (key) => {
      await redis.del(key);
    },
  },
  // What the other sessions have, and better-auth has no field for.
  session: {
    additionalFields: {
      content: {
        type: "string",
        input: false,
        defaultValue: JSON.stringify({ ...rest, device: client.device }),
      },
    },
  },
  // Hashing passwords takes a tenth of a second, and nobody measures it here.
  emailAndPassword: {
    enabled: true,
    password: { hash: async () => "hash", verify: async () => true },
  },
  advanced: { ipAddress: { ipAddressHeaders: ["x-forwarded-for"] } },
  rateLimit: { enabled: false },
  telemetry: { enabled: false },
});
await (await getMigrations(auth.options)).runMigrations();
const handle = toNodeHandler(auth);

const server = createServer(async (request, response) => {
  if (request.method !== "POST") return void (await handle(request, response));
  const n = Number(new URL(request.url ?? "", "http://127.0.0.1").searchParams.get("n"));
  const { headers } = await logIn(n);
  response.writeHead(200, { "set-cookie": headers.getSetCookie() }).end("{}");
});
server.listen(0, "127.0.0.1", () => {
  const { port } = server.address() as AddressInfo;
  console.log(JSON.stringify({ http_address: `127.0.0.1:${port}` }));
});

function logIn(n: number): Promise<Response> {
  const { displayName, client } = contentOf(n);
  return auth.api.signUpEmail({
    body: { email: `user-${n}@example.com`, name: displayName, password: "a long password" },
    headers: { "user-agent": client.userAgent, "x-forwarded-for": client.ip },
    asResponse: true,
  });
}
