// A peer: @fastify/session with connect-redis, which its README names as a store. `POST /sessions?n=`
// logs the n-th user in, `GET /session` answers with what the session has.
import fastifyCookie from "@fastify/cookie";
import fastifySession from "@fastify/session";
import { RedisStore } from "connect-redis";
import { fastify } from "fastify";
import { createClient } from "redis";
import { contentOf } from "../session-content.ts";

declare module "fastify" {
  interface Session {
    user: object;
  }
}

const [redisUrl = ""] = process.argv.slice(2);
const client = createClient({ url: redisUrl });
await client.connect();

const app = fastify();
app.register(fastifyCookie);
app.register(fastifySession, {
  store: new RedisStore({ client, prefix: "fastify:" }),
  secret: "a secret that signs cookies and is long enough",
  saveUninitialized: false,
  cookie: { secure: false, maxAge: 24 * 3_600_000 },
});
app.post<{ Querystring: { n: string } }>("/sessions", async (request) => {
  const n = Number(request.query.n);
  request.session.user = { userId: `user-${n}`, ...contentOf(n) };
  return {};
});
app.get("/session", async (request) => request.session.user);
const address = await app.listen({ port: 0, host: "127.0.0.1" });
console.log(JSON.stringify({ http_address: new URL(address).host }));
