import { create } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema } from "@sessiond/proto/google/rpc/error_details";
import { StatusSchema } from "@sessiond/proto/google/rpc/status";
import { expect, test } from "vitest";
import { SessiondError } from "../error.js";
import { answer } from "../testing/session-server.js";
import { errorFromStatus, errorFromTransport } from "./received-error.js";

test("an error of the server keeps its reason, code, message and metadata", () => {
  const error = errorFromTransport(
    answer(Code.PermissionDenied, "PERMISSION_DENIED", {
      message: "sessions:create is needed",
      metadata: { permission: "sessions:create" },
    }),
  );
  expect(error).toBeInstanceOf(SessiondError);
  expect(error.reason).toBe("PERMISSION_DENIED");
  expect(error.code).toBe(Code.PermissionDenied);
  expect(error.message).toBe("sessions:create is needed");
  expect(error.metadata).toEqual({ permission: "sessions:create" });
  expect(error.fieldViolations).toEqual([]);
  expect(error.retryAfterMs).toBeUndefined();
  expect(error.cause).toBeUndefined();
});

test("an invalid argument names its fields", () => {
  const violations = [
    { field: "user_id", description: "expected 1 to 256 bytes" },
    { field: "roles[3]", description: "expected at most 128 bytes" },
  ];
  const error = errorFromTransport(
    answer(Code.InvalidArgument, "INVALID_ARGUMENT", { violations }),
  );
  expect(error.fieldViolations).toEqual(violations);
});

test("the wait a server asks for is told in milliseconds", () => {
  const details = { retryAfterMs: 1250 };
  const error = errorFromTransport(answer(Code.Unavailable, "STORE_UNAVAILABLE", details));
  expect(error.retryAfterMs).toBe(1250);
});

test("a reason that only a newer server knows is told by its code and named in the message", () => {
  const denied = errorFromTransport(answer(Code.PermissionDenied, "TENANT_SUSPENDED"));
  expect(denied.reason).toBe("PERMISSION_DENIED");
  expect(denied.message).toBe("from the server (TENANT_SUSPENDED)");
  const aborted = errorFromTransport(answer(Code.Aborted, "LEASE_LOST"));
  expect(aborted.reason).toBe("UNKNOWN");
  expect(aborted.code).toBe(Code.Aborted);
});

test("a name that every object has is no reason", () => {
  expect(errorFromTransport(answer(Code.Internal, "toString")).reason).toBe("INTERNAL");
});

test("only sessiond itself says that there is no session", () => {
  const bare = errorFromTransport(new ConnectError("no route", Code.NotFound));
  expect(bare.reason).toBe("UNKNOWN");
  const details = { domain: "other.example" };
  const foreign = errorFromTransport(answer(Code.NotFound, "SESSION_NOT_FOUND", details));
  expect(foreign.reason).toBe("UNKNOWN");
  expect(foreign.code).toBe(Code.NotFound);
});

test("a lost connection is UNAVAILABLE in whatever way connect-node reports it", () => {
  const reset = Object.assign(new Error("write EPIPE"), { code: "EPIPE", syscall: "write" });
  const forms = [
    new ConnectError("http/2 stream closed with error code CANCEL (0x8)", Code.Canceled),
    new ConnectError("read ECONNRESET", Code.Aborted),
    new ConnectError("write EPIPE", Code.Internal, undefined, undefined, reset),
    reset,
  ];
  for (const form of forms) {
    const error = errorFromTransport(form);
    expect(error.reason).toBe("UNAVAILABLE");
    expect(error.code).toBe(Code.Unavailable);
    expect(error.cause).toBeInstanceOf(ConnectError);
  }
});

test("a conflict that the server reports is not taken for a lost connection", () => {
  expect(errorFromTransport(answer(Code.Aborted, "ETAG_MISMATCH")).reason).toBe("ETAG_MISMATCH");
});

test("an address that failed in several ways tells all of them", () => {
  const attempts = ["connect ECONNREFUSED ::1:1", "connect ECONNREFUSED 127.0.0.1:1"];
  const cause = Object.assign(new AggregateError(attempts.map((each) => new Error(each))), {
    code: "ECONNREFUSED",
  });
  const error = errorFromTransport(
    new ConnectError("", Code.Unavailable, undefined, undefined, cause),
  );
  expect(error.message).toBe(attempts.join("; "));
});

test("an error that is its own cause is followed no further", () => {
  const loop = new Error("loop");
  loop.cause = loop;
  expect(errorFromTransport(loop).reason).toBe("INTERNAL");
});

test("an entry of a batch fails as the call for it alone would", () => {
  const status = create(StatusSchema, {
    code: Code.InvalidArgument,
    message: "session_id: expected 1 to 128 characters",
    details: [
      anyPack(
        ErrorInfoSchema,
        create(ErrorInfoSchema, { reason: "INVALID_ARGUMENT", domain: "sessiond" }),
      ),
      anyPack(
        BadRequestSchema,
        create(BadRequestSchema, {
          fieldViolations: [{ field: "session_id", description: "too long" }],
        }),
      ),
    ],
  });
  const error = errorFromStatus(status);
  expect(error.reason).toBe("INVALID_ARGUMENT");
  expect(error.message).toBe("session_id: expected 1 to 128 characters");
  expect(error.fieldViolations).toEqual([{ field: "session_id", description: "too long" }]);
});

test("an entry of a batch whose code makes no sense is UNKNOWN", () => {
  for (const code of [0, 99, -1]) {
    expect(errorFromStatus(create(StatusSchema, { code, message: "?" })).reason).toBe("UNKNOWN");
  }
});
