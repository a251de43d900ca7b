import { serve } from "@hono/node-server";
import { createSessionClient } from "@sessiond/client";
import { createApi } from "./api.ts";

const client = createSessionClient({
  baseUrl: process.env["SESSIOND_URL"] ?? "http://127.0.0.1:50051",
  token: process.env["SESSIOND_TOKEN"] ?? "",
});

const port = Number(process.env["PORT"] ?? 3000);
const server = serve({ fetch: createApi({ client }).fetch, hostname: "127.0.0.1", port });
server.on("listening", () => {
  const address = server.address();
  const { port } = typeof address === "object" && address !== null ? address : {};
  console.log(`The API is at http://127.0.0.1:${port}`);
});

process.once("SIGTERM", () => void server.close(() => client.close()));
