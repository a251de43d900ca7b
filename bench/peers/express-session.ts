// A peer: express-session with connect-redis, as their READMEs set them up. `POST /sessions?n=` logs the
// n-th user in, `GET /session` answers with what the session has.
import type { AddressInfo } from "node:net";
import { RedisStore } from "connect-redis";
import express from "express";
import session from "express-session";
import { createClient } from "redis";
import { contentOf } from "../session-content.ts";

declare module "express-session" {
  interface SessionData {
    user: object;
  }
}

const [redisUrl = ""] = process.argv.slice(2);
const client = createClient({ url: redisUrl });
await client.connect();

const app = express();
app.use(
  session({
    store: new RedisStore({ client, prefix: "express:" }),
    secret: "a secret that signs cookies",
    resave: false,
    saveUninitialized: false,
    cookie: { maxAge: 24 * 3_600_000 },
  }),
);
app.post("/sessions", (request, response) => {
  const n = Number(request.query["n"]);
  request.session.user = { userId: `user-${n}`, ...contentOf(n) };
  response.json({});
});
app.get("/session", (request, response) => {
  response.json(request.session.user);
});
const server = app.listen(0, "127.0.0.1", () => {
  const { port } = server.address() as AddressInfo;
  console.log(JSON.stringify({ http_address: `127.0.0.1:${port}` }));
});
