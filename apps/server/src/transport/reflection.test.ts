import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Health } from "@sessiond/proto/health/v1/health";
import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";
import { expect, test } from "vitest";
import { SERVICES } from "../services/services.js";
import { HealthClient } from "../testing/health-client.js";
import { bearer, clientOver, GRPC, pathOf } from "../testing/protocols.js";
import { startTestServer, useTestServer } from "../testing/test-server.js";

const run = promisify(execFile);
const BUF = fileURLToPath(new URL("../../../../node_modules/.bin/buf", import.meta.url));

const server = useTestServer();

/** Runs `buf curl` over gRPC. It knows only as much of the contract as the server tells it. */
async function curl(address: string, ...args: readonly string[]): Promise<string> {
  const grpc = ["curl", "--protocol", "grpc", "--http2-prior-knowledge"];
  return (await run(BUF, [...grpc, ...args, `http://${address}`])).stdout;
}

test("everyone is told which services there are, and their methods", async () => {
  const listed = await curl(server.grpcAddress, "--list-methods");
  const methods = [Health, ...SERVICES].flatMap((service) => service.methods.map(pathOf));
  expect(listed.trim().split("\n").sort()).toEqual(methods.map((path) => path.slice(1)).sort());
});

test("a tool can make any call by reflection alone, and read its answer or its error", async () => {
  const header = ["--header", `authorization: ${bearer(server.accessToken).authorization}`];
  const call = async (method: string, message: object) => {
    const path = `${server.grpcAddress}/${SessionService.typeName}/${method}`;
    return JSON.parse(await curl(path, ...header, "--data", JSON.stringify(message)));
  };
  const content = { roles: ["admin"], client: { ip: "::1" }, data: { theme: "dark" } };
  const created = await call("CreateSession", { userId: "ann", ...content, lifetime: "3600s" });
  const tokens = [created.token, "sst_nonsense"];
  const { results } = await call("BatchVerifySessions", { tokens });
  expect(results[0].session).toEqual(created.session);
  expect(results[0].session).toMatchObject({ roles: ["admin"], data: { theme: "dark" } });
  const details = [{ reason: "SESSION_NOT_FOUND", domain: "sessiond" }];
  expect(results[1].error).toMatchObject({ code: 5, message: "session not found", details });

  const update = { sessionId: created.session.id, session: { displayName: "Ann" } };
  const updated = await call("UpdateSession", { ...update, updateMask: "displayName" });
  expect(updated.session.displayName).toBe("Ann");
  await expect(call("VerifySession", { token: "sst_nonsense" })).rejects.toMatchObject({
    stderr: expect.stringContaining('"code": "not_found"'),
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
