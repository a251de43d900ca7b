import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { temporaryDirectory } from "../testing/temporary-directory.js";
import { readVariable, unknownVariables } from "./environment.js";

const KNOWN = ["SESSIOND_STORE", "SESSIOND_GRPC_ADDRESS"];

const directory = await temporaryDirectory();
afterAll(() => directory[Symbol.asyncDispose]());

/** A file with this content. */
function fileWith(content: string): string {
  const path = join(directory.path, "secret");
  writeFileSync(path, content);
  return path;
}

test.each([
  ["value", "value"],
  ["value\n", "value"],
  ["value\r\n\n", "value"],
  [" a\nb ", " a\nb "],
])("a _FILE with %j has the value %j", (content, text) => {
  const env = { SESSIOND_STORE_FILE: fileWith(content), SESSIOND_STORE: "" };
  expect(readVariable(env, "SESSIOND_STORE")).toEqual({ name: "SESSIOND_STORE_FILE", text });
});

test("an empty _FILE variable counts as unset", () => {
  const name = "SESSIOND_STORE";
  expect(readVariable({ SESSIOND_STORE_FILE: "", SESSIOND_STORE: "x" }, name)?.text).toBe("x");
  expect(readVariable({ SESSIOND_STORE_FILE: "" }, name)).toBeUndefined();
});

test("a variable together with its _FILE is refused", () => {
  const env = { SESSIOND_STORE: "x", SESSIOND_STORE_FILE: fileWith("x") };
  const fault = "SESSIOND_STORE_FILE: SESSIOND_STORE is set, too; expected only one of them";
  expect(() => readVariable(env, "SESSIOND_STORE")).toThrow(fault);
});

test.each([
  ["is missing", () => "/no/such/file", "cannot read /no/such/file: ENOENT"],
  ["is a directory", () => directory.path, `cannot read ${directory.path}: EISDIR`],
  ["is empty", () => fileWith("\n"), "expected a value in "],
])("a _FILE that %s is named, and is not the same as none", (_, path, fault) => {
  const env = { SESSIOND_STORE_FILE: path() };
  expect(() => readVariable(env, "SESSIOND_STORE")).toThrow(`SESSIOND_STORE_FILE: ${fault}`);
});

test("a variable that is no setting is a fault, with the name that was meant", () => {
  const env = { SESSIOND_STORE: "x", SESSIOND_STROE: "x", SESSIOND_PASSWORD: "x", PATH: "/bin" };
  expect(unknownVariables(env, KNOWN)).toEqual([
    "SESSIOND_STROE: unknown variable (did you mean SESSIOND_STORE?)",
    "SESSIOND_PASSWORD: unknown variable",
  ]);
});

test("so is a _FILE that belongs to no setting", () => {
  const env = { SESSIOND_STORE_FILE: "x", SESSIOND_STROE_FILE: "x", SESSIOND_TOKEN_FILE: "x" };
  expect(unknownVariables(env, KNOWN)).toEqual([
    "SESSIOND_STROE_FILE: unknown variable (did you mean SESSIOND_STORE_FILE?)",
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
    SESSIOND_TOKEN_ISSUER: "https://id.example.com",
    SESSIOND_TOKEN_SCOPE: "sessions:read",
    SESSIOND_TOKEN_AUDIENCE: "sessiond",
    SESSIOND_CLIENT_ID: "operators",
    SESSIOND_CLIENT_SECRET_FILE: "/etc/operators/client-secret",
    // A server that runs under a lock has this one.
    SESSIOND_FENCING_TOKEN: "1700000000000",
  };
  expect(unknownVariables(env, KNOWN)).toEqual([]);
});
