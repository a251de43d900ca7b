import { create } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema } from "@sessiond/proto/google/rpc/error_details";
import { StatusSchema } from "@sessiond/proto/google/rpc/status";
import { expect, test } from "vitest";
import { SessiondError } from "../error.js";
import { answer } from "../testing/session-server.js";
import { errorFromStatus, errorFromTransport } from "./received-error.js";

const violations = [
  { field: "user_id", description: "expected 1 to 256 bytes" },
  { field: "roles[3]", description: "expected at most 128 bytes" },
];

test("an error of the server keeps its reason, code, message and metadata", () => {
  const message = "sessions:create is needed";
  const metadata = { permission: "sessions:create" };
  const error = errorFromTransport(
    answer(Code.PermissionDenied, "PERMISSION_DENIED", { message, metadata }),
  );
  expect(error).toBeInstanceOf(SessiondError);
  expect(error).toMatchObject({ reason: "PERMISSION_DENIED", code: Code.PermissionDenied });
  expect(error).toMatchObject({ message, metadata, fieldViolations: [] });
  expect(error.retryAfterMs).toBeUndefined();
  expect(error.cause).toBeUndefined();
});

test("an error of the server names the fields, and the wait in milliseconds", () => {
  const details = { violations, retryAfterMs: 1250 };
  const error = errorFromTransport(answer(Code.InvalidArgument, "INVALID_ARGUMENT", details));
  expect(error).toMatchObject({ fieldViolations: violations, retryAfterMs: 1250 });
});

test("a reason that only a newer server knows becomes its code, and is in the message", () => {
  const message = "from the server (TENANT_SUSPENDED)";
  const denied = errorFromTransport(answer(Code.PermissionDenied, "TENANT_SUSPENDED"));
  expect(denied).toMatchObject({ reason: "PERMISSION_DENIED", message });
  const aborted = errorFromTransport(answer(Code.Aborted, "LEASE_LOST"));
  expect(aborted).toMatchObject({ reason: "UNKNOWN", code: Code.Aborted });
  // A name that every object has is no reason either.
  expect(errorFromTransport(answer(Code.Internal, "toString")).reason).toBe("INTERNAL");
});

test("only sessiond itself says that a session does not exist", () => {
  const bare = errorFromTransport(new ConnectError("no route", Code.NotFound));
  expect(bare.reason).toBe("UNKNOWN");
  const details = { domain: "other.example" };
  const foreign = errorFromTransport(answer(Code.NotFound, "SESSION_NOT_FOUND", details));
  expect(foreign).toMatchObject({ reason: "UNKNOWN", code: Code.NotFound });
});

const reset = Object.assign(new Error("write EPIPE"), { code: "EPIPE", syscall: "write" });

test.each([
  new ConnectError("http/2 stream closed with error code CANCEL (0x8)", Code.Canceled),
  new ConnectError("read ECONNRESET", Code.Aborted),
  new ConnectError("write EPIPE", Code.Internal, undefined, undefined, reset),
  reset,
])("a lost connection is UNAVAILABLE, also as connect-node's %s", (thrown) => {
  const error = errorFromTransport(thrown);
  expect(error).toMatchObject({ reason: "UNAVAILABLE", code: Code.Unavailable });
  expect(error.cause).toBeInstanceOf(ConnectError);
});

test("a conflict that the server reports is no lost connection", () => {
  expect(errorFromTransport(answer(Code.Aborted, "ETAG_MISMATCH")).reason).toBe("ETAG_MISMATCH");
});

test("the error of a name with several addresses has all their messages", () => {
  const attempts = ["connect ECONNREFUSED ::1:1", "connect ECONNREFUSED 127.0.0.1:1"];
  const errors = attempts.map((message) => new Error(message));
  const cause = Object.assign(new AggregateError(errors), { code: "ECONNREFUSED" });
  const thrown = new ConnectError("", Code.Unavailable, undefined, undefined, cause);
  expect(errorFromTransport(thrown).message).toBe(attempts.join("; "));
});

test("an error that is its own cause ends the search for causes", () => {
  const loop = new Error("loop");
  loop.cause = loop;
  expect(errorFromTransport(loop).reason).toBe("INTERNAL");
});

test("an entry of a batch fails like a call for it alone", () => {
  const info = create(ErrorInfoSchema, { reason: "INVALID_ARGUMENT", domain: "sessiond" });
  const badRequest = create(BadRequestSchema, { fieldViolations: violations });
  const details = [anyPack(ErrorInfoSchema, info), anyPack(BadRequestSchema, badRequest)];
  const message = "session_id: expected 1 to 128 characters";
  const status = create(StatusSchema, { code: Code.InvalidArgument, message, details });
  const expected = { reason: "INVALID_ARGUMENT", message, fieldViolations: violations };
  expect(errorFromStatus(status)).toMatchObject(expected);
});

test.each([0, 99, -1])("an entry of a batch with the code %d is UNKNOWN", (code) => {
  expect(errorFromStatus(create(StatusSchema, { code })).reason).toBe("UNKNOWN");
});
