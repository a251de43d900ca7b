import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";
import { expect, test } from "vitest";
import type { Caller } from "../auth/caller.js";
import { Admission, Admitted } from "./admission.js";

const path = (name: string) => `/${SessionService.typeName}/${name}`;

test("a caller's flood of VerifySession leaves others room to create sessions", () => {
  using admission = new Admission({ maxInFlight: 100 });
  for (const subject of ["ada", "bob"]) admission.learn(subject, { subject } as Caller);
  let verified = 0;
  while (admission.enter(path("VerifySession"), "ada") instanceof Admitted) verified++;
  expect(verified).toBe(50);
  expect(admission.enter(path("CreateSession"), "bob")).toBeInstanceOf(Admitted);
});
