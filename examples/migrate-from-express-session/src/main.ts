import { createSessionClient } from "@sessiond/client";
import type { SessionData } from "@sessiond/web";
import { RedisStore } from "connect-redis";
import type { Express } from "express";
import { createClient } from "redis";
import { createDropInStore } from "./drop-in-store.ts";
import { createNewApp } from "./new-app.ts";
import { createOldApp } from "./old-app.ts";

const client = createSessionClient<SessionData>({
  baseUrl: process.env["SESSIOND_URL"] ?? "http://127.0.0.1:50051",
  token: process.env["SESSIOND_TOKEN"] ?? "",
});
const redis = createClient({
  url: process.env["REDIS_URL"] ?? "redis://127.0.0.1:6379",
  // A command fails while Redis is away, and does not wait for it.
  disableOfflineQueue: true,
});
redis.on("error", (error) => console.error(`Redis: ${error.message}`));

const STAGES: Readonly<Record<string, () => Express>> = {
  old: () => createOldApp(oldStore()),
  both: () =>
    createNewApp(client, {
      store: oldStore(),
      user: ({ user, cups = 0 }) => user && { ...user, data: { cups } },
    }),
  new: () => createNewApp(client),
  "drop-in": () => createOldApp(createDropInStore(client)),
};

function oldStore(): RedisStore {
  redis.connect().catch(() => {});
  return new RedisStore({ client: redis });
}

const stage = STAGES[process.argv[2] ?? ""];
if (stage === undefined) {
  console.error(`expected one of ${Object.keys(STAGES).join(", ")}`);
  process.exit(2);
}
const server = stage().listen(Number(process.env["PORT"] ?? 3000), "127.0.0.1");
server.on("listening", () => {
  const address = server.address();
  const port = typeof address === "object" ? address?.port : undefined;
  console.log(`Open http://localhost:${port}`);
});

process.once("SIGTERM", () => {
  server.close(() => {
    client.close();
    redis.destroy();
  });
  server.closeIdleConnections();
});
