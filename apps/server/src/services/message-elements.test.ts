import { create, toBinary } from "@bufbuild/protobuf";
import {
  BatchVerifySessionsRequestSchema,
  CreateSessionRequestSchema,
} from "@sessiond/proto/sessiond/v1/session_service";
import { expect, test } from "vitest";
import { checkElements, checkJsonElements } from "./message-elements.js";

const TOO_MANY = "expected at most 20000 fields and list elements in a request";

test("a request of hundreds of thousands of elements is refused before it is parsed, wherever they are", () => {
  const many = Array.from({ length: 300_000 }, () => 1);
  const nested = create(CreateSessionRequestSchema, { userId: "ada", data: { a: { b: many } } });
  const flat = create(BatchVerifySessionsRequestSchema, { tokens: many.map(() => "") });
  const data = toBinary(CreateSessionRequestSchema, nested);
  const tokens = toBinary(BatchVerifySessionsRequestSchema, flat);
  const json = Buffer.from(JSON.stringify({ data: { many } }));
  expect(() => checkElements(CreateSessionRequestSchema, data)).toThrow(TOO_MANY);
  expect(() => checkElements(BatchVerifySessionsRequestSchema, tokens)).toThrow(TOO_MANY);
  expect(() => checkJsonElements(json)).toThrow(TOO_MANY);
});

test("the largest requests that are valid pass", () => {
  const data = { a: Array.from({ length: 8_000 }, () => 1) };
  const largest = create(CreateSessionRequestSchema, { userId: "ada", data });
  checkElements(CreateSessionRequestSchema, toBinary(CreateSessionRequestSchema, largest));
  const tokens = Array.from({ length: 1_000 }, () => "x".repeat(200));
  const batch = create(BatchVerifySessionsRequestSchema, { tokens });
  checkElements(
    BatchVerifySessionsRequestSchema,
    toBinary(BatchVerifySessionsRequestSchema, batch),
  );
});
