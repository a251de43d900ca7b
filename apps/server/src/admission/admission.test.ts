import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";
import { expect, test } from "vitest";
import type { Caller } from "../auth/caller.js";
import { Admission, Admitted, Refused } from "./admission.js";

const path = (name: string) => `/${SessionService.typeName}/${name}`;

test("a caller's flood of VerifySession leaves others room to create sessions", () => {
  using admission = new Admission({ maxInFlight: 100 });
  for (const subject of ["ada", "bob"]) admission.learn(subject, { subject } as Caller);
  let verified = 0;
  while (admission.enter(path("VerifySession"), "ada") instanceof Admitted) verified++;
  expect(verified).toBe(50);
  expect(admission.enter(path("CreateSession"), "bob")).toBeInstanceOf(Admitted);
});

test("verifications are shed after all else, also in the batches that clients make of them", () => {
  using admission = new Admission({ maxInFlight: 100 });
  const callers = Array.from({ length: 20 }, (_, i) => `caller ${i}`);
  for (const subject of callers) admission.learn(subject, { subject } as Caller);
  const enter = (name: string, i: number) => admission.enter(path(name), callers[i % 20] ?? "");
  for (let i = 0; i < 90; i++) expect(enter("VerifySession", i)).toBeInstanceOf(Admitted);
  expect(enter("CreateSession", 0)).toBeInstanceOf(Refused);
  expect(enter("GetSession", 0)).toBeInstanceOf(Refused);
  expect(enter("BatchVerifySessions", 0)).toBeInstanceOf(Admitted);
});
