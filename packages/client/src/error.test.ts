import { expect, test } from "vitest";
import { invalidArgument } from "./error.js";

test.each([
  ["user_id", "userId"],
  ["session_ids[2]", "sessionIds[2]"],
  ["idle_timeout", "idleTimeoutMs"],
  ["update_mask", "update"],
  ["roles[0]", "roles[0]"],
  // A key of the data is the caller's own.
  ["data.user_id[1].session_id", "data.user_id[1].session_id"],
])("an argument refused as %s is %s in the message", (field, argument) => {
  const error = invalidArgument(field, "expected another");
  expect(error.message).toBe(`${argument}: expected another`);
  expect(error.fieldViolations).toEqual([{ field, description: "expected another" }]);
});
