import { createSessionClient } from "@sessiond/client";
import type { SessionData } from "@sessiond/web";
import { createShop } from "./shop.ts";

const client = createSessionClient<SessionData>({
  baseUrl: process.env["SESSIOND_URL"] ?? "http://127.0.0.1:50051",
  token: process.env["SESSIOND_TOKEN"] ?? "",
});

const server = createShop({ client }).listen(Number(process.env["PORT"] ?? 3000), "127.0.0.1");
server.on("listening", () => {
  const address = server.address();
  const port = typeof address === "object" ? address?.port : undefined;
  console.log(`The shop is open at http://localhost:${port}`);
});

process.once("SIGTERM", () => {
  server.close(() => client.close());
  server.closeIdleConnections();
});
