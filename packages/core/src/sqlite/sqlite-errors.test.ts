import { expect, test } from "vitest";
import { sessionNotFound } from "../errors.js";
import { SQLITE, sqliteCode, toStoreError } from "./sqlite-errors.js";

function sqliteError(errcode: number): Error {
  return Object.assign(new Error("disk I/O error"), { code: "ERR_SQLITE_ERROR", errcode });
}

test("an extended result code counts as its primary one", () => {
  const SQLITE_IOERR_FSYNC = 1034;
  expect(sqliteCode(sqliteError(SQLITE_IOERR_FSYNC))).toBe(SQLITE.IOERR);
  expect(sqliteCode(new Error("no code"))).toBeUndefined();
  expect(sqliteCode("no error")).toBeUndefined();
});

test("what comes from the file, the disk or another process makes the store unavailable", () => {
  for (const code of Object.values(SQLITE)) {
    const cause = sqliteError(code);
    expect(toStoreError(cause)).toMatchObject({ reason: "STORE_UNAVAILABLE", cause });
  }
});

test("a refusal stays a refusal, and a fault of ours a fault", () => {
  const SQLITE_CONSTRAINT = 19;
  for (const error of [sessionNotFound(), new TypeError(), sqliteError(SQLITE_CONSTRAINT)]) {
    expect(toStoreError(error)).toBe(error);
  }
});
