import { createSessionClient } from "@sessiond/client";
import { expect, onTestFinished, test, vi } from "vitest";
import { useTestServer } from "../../testing/test-server.js";
import { runExample } from "./readme-example.test.fixture.js";

const server = useTestServer();
// Each example is a process that loads a whole framework.
vi.setConfig({ testTimeout: 60_000 });

test("the example of @sessiond/express-session logs a user in with another session id", async () => {
  const browser = await runExample("express-session", server);
  expect(await browser.text("/")).toBe("hello, guest");
  expect(await browser.text("/login")).toBe("welcome");
  expect(await browser.text("/")).toBe("hello, ann");
});

test("the example of @sessiond/better-auth signs a user up, with the session in sessiond", async () => {
  const browser = await runExample("better-auth", server);
  const [user, from] = [{ email: "ann@example.com", name: "Ann" }, "http://localhost:3000"];
  const created = await browser.post("/api/auth/sign-up/email", from, {
    ...{ ...user, password: "correct horse battery" },
  });
  expect(created.status).toBe(200);
  const { token } = (await created.json()) as { token: string };
  const client = createSessionClient({ baseUrl: server.grpcUrl, token: server.accessToken });
  onTestFinished(() => client.close());
  expect(await client.verifySession(token)).toMatchObject({ state: "active" });
  expect(JSON.parse(await browser.text("/api/auth/get-session"))).toMatchObject({ user });
});
