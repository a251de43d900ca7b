import { expect, test } from "vitest";
import { unknownVariables } from "./environment.js";

const KNOWN = ["SESSIOND_STORE", "SESSIOND_GRPC_ADDRESS"];

test("a variable that is no setting is a fault, with the name that was meant", () => {
  const env = { SESSIOND_STORE: "x", SESSIOND_STROE: "x", SESSIOND_PASSWORD: "x", PATH: "/bin" };
  expect(unknownVariables(env, KNOWN)).toEqual([
    "SESSIOND_STROE: unknown variable (did you mean SESSIOND_STORE?)",
    "SESSIOND_PASSWORD: unknown variable",
  ]);
});

test("variables that Kubernetes sets for a service called sessiond are no faults", () => {
  const env = {
    SESSIOND_SERVICE_HOST: "10.0.0.7",
    SESSIOND_SERVICE_PORT: "50051",
    SESSIOND_SERVICE_PORT_GRPC: "50051",
    SESSIOND_PORT: "tcp://10.0.0.7:50051",
    SESSIOND_PORT_50051_TCP: "tcp://10.0.0.7:50051",
    SESSIOND_PORT_50051_TCP_PROTO: "tcp",
    SESSIOND_PORT_50051_TCP_PORT: "50051",
    SESSIOND_PORT_50051_TCP_ADDR: "10.0.0.7",
    SESSIOND_GRPC_PORT: "tcp://10.0.0.7:50051",
  };
  expect(unknownVariables(env, KNOWN)).toEqual([]);
  expect(unknownVariables({ SESSIOND_GRPC_PORT: "50051" }, KNOWN)).toHaveLength(1);
});

test("variables of other commands are no faults of a server", () => {
  const env = {
    SESSIOND_SERVER: "http://127.0.0.1:50051",
    SESSIOND_TOKEN: "access.token.signature",
    // A server that runs under a lock has this one.
    SESSIOND_FENCING_TOKEN: "1700000000000",
  };
  expect(unknownVariables(env, KNOWN)).toEqual([]);
});
