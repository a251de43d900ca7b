import { expect, test } from "vitest";
import { invalidArgument, SessiondError, type SessiondErrorReason } from "./error.js";

test.each([
  ["user_id", "userId"],
  ["session_ids[2]", "sessionIds[2]"],
  ["idle_timeout", "idleTimeoutMs"],
  ["update_mask", "update"],
  ["roles[0]", "roles[0]"],
  // A key of the data is the caller's own.
  ["data.user_id[1].session_id", "data.user_id[1].session_id"],
  ["set_data.user_id", "setData.user_id"],
])("an argument refused as %s is %s in the message", (field, argument) => {
  const error = invalidArgument(field, "expected another");
  expect(error.message).toBe(`${argument}: expected another`);
  expect(error.fieldViolations).toEqual([{ field, description: "expected another" }]);
});

test.each<[number, SessiondErrorReason[]]>([
  // The user must log in.
  [401, ["SESSION_NOT_FOUND"]],
  // A later attempt may succeed.
  [503, ["TOKEN_UNAVAILABLE", "ISSUER_UNAVAILABLE", "UNAVAILABLE", "OVERLOADED"]],
  // The application may not do what its user may do. Nobody else can mend that.
  [500, ["UNAUTHENTICATED", "PERMISSION_DENIED"]],
])("a web application answers %d to its client because of %j", (status, reasons) => {
  for (const reason of reasons) expect(new SessiondError(reason, "").httpStatus).toBe(status);
});
