import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Health } from "@sessiond/proto/health/v1/health";
import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";
import { afterAll, beforeAll, expect, test } from "vitest";
import { SERVICES } from "../services/services.js";
import { HealthClient } from "../testing/health-client.js";
import { bearer, clientOver, GRPC } from "../testing/protocols.js";
import { startTestServer, type TestServer } from "../testing/test-server.js";

const run = promisify(execFile);
const BUF = fileURLToPath(new URL("../../../../node_modules/.bin/buf", import.meta.url));
const HEALTH = Health.typeName;
const SERVICE = SessionService.typeName;

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
});
afterAll(() => server[Symbol.asyncDispose]());

/** Runs `buf curl` over gRPC. It knows nothing of the contract but what the server tells it. */
async function curl(address: string, ...args: readonly string[]): Promise<string> {
  const grpc = ["curl", "--protocol", "grpc", "--http2-prior-knowledge"];
  return (await run(BUF, [...grpc, ...args, `http://${address}`])).stdout;
}

test("whoever asks is told which services there are, and their methods", async () => {
  const services = (await curl(server.grpcAddress, "--list-services")).trim().split("\n");
  expect(services.sort()).toEqual([HEALTH, ...SERVICES.map(({ typeName }) => typeName)].sort());
  const methods = (await curl(server.grpcAddress, "--list-methods")).trim().split("\n");
  expect(methods.sort()).toEqual(
    [Health, ...SERVICES]
      .flatMap(({ methods: own }) => own)
      .map(({ parent, name }) => `${parent.typeName}/${name}`)
      .sort(),
  );
});

test("a tool can ask for the health of the server, and of one service, without a token", async () => {
  for (const service of ["", SERVICE]) {
    const data = ["--data", JSON.stringify({ service })];
    const answer = JSON.parse(await curl(`${server.grpcAddress}/${HEALTH}/Check`, ...data));
    expect(answer).toEqual({ status: "SERVING" });
  }
});

test("a tool can make any call by reflection alone, and read what comes of it", async () => {
  const header = ["--header", `authorization: ${bearer(server.accessToken).authorization}`];
  const call = (method: string, json: object) =>
    curl(`${server.grpcAddress}/${SERVICE}/${method}`, ...header, "--data", JSON.stringify(json));
  const created = JSON.parse(
    await call("CreateSession", {
      userId: "ann",
      roles: ["admin"],
      client: { ip: "::1" },
      data: { theme: "dark" },
      lifetime: "3600s",
    }),
  );
  const { session } = JSON.parse(await call("VerifySession", { token: created.token }));
  expect(session).toEqual(created.session);
  expect(session).toMatchObject({ roles: ["admin"], data: { theme: "dark" } });

  const updated = JSON.parse(
    await call("UpdateSession", {
      sessionId: session.id,
      session: { displayName: "Ann" },
      updateMask: "displayName",
    }),
  );
  expect(updated.session.displayName).toBe("Ann");
  await expect(call("VerifySession", { token: "sst_nonsense" })).rejects.toMatchObject({
    stderr: expect.stringContaining('"code": "not_found"'),
  });
});

test("a tool can read the error details that are part of a response", async () => {
  const { authorization } = bearer(server.accessToken);
  const output = await curl(
    `${server.grpcAddress}/${SERVICE}/BatchVerifySessions`,
    ...["--header", `authorization: ${authorization}`, "--data", '{"tokens": ["sst_nonsense"]}'],
  );
  expect(JSON.parse(output).results[0].error).toMatchObject({
    code: 5,
    message: "session not found",
    details: [{ reason: "SESSION_NOT_FOUND", domain: "sessiond" }],
  });
});

test("reflection can be turned off, and nothing else goes with it", async () => {
  await using closed = await startTestServer({ config: { reflection: false } });
  await expect(curl(closed.grpcAddress, "--list-services")).rejects.toMatchObject({
    stderr: expect.stringMatching(/unimplemented|does not implement/i),
  });
  using health = new HealthClient(closed.grpcAddress);
  expect(await health.check()).toBe("SERVING");
  expect((await clientOver(GRPC, closed).countSessions({})).count).toBe(0);
});
