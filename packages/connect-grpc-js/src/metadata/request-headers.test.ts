import fc from "fast-check";
import { expect, test } from "vitest";
import { RequestHeaders } from "./request-headers.js";

const names = fc.constantFrom("authorization", "x-a", "x-b", "x-c");
const values = fc.string({ unit: fc.constantFrom(..."aZ09,;="), maxLength: 12 });

test("they are those of the request, without the protocol's own", () => {
  const own = {
    ":path": "/a.B/C",
    "content-type": "application/grpc",
    "grpc-encoding": "gzip",
    "grpc-timeout": "1S",
    te: "trailers",
  };
  fc.assert(
    fc.property(fc.dictionary(names, values), (sent) => {
      const headers = new RequestHeaders({ ...own, ...sent });
      for (const name of ["Authorization", ...Object.keys({ ...own, ...sent })]) {
        const expected = sent[name.toLowerCase()] ?? null;
        if (!name.startsWith(":")) expect(headers.get(name)).toBe(expected);
        if (!name.startsWith(":")) expect(headers.has(name)).toBe(expected !== null);
      }
      expect([...headers]).toEqual([...new Headers(sent)]);
    }),
  );
});

test("binary values become unpadded base64", () => {
  const headers = new RequestHeaders({ "x-bin": "//4=,AQ==" });
  expect(headers.get("x-bin")).toBe("//4, AQ");
});
