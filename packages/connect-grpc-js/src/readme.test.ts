import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

test("the example in the README works", () => {
  const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
  const example = /```ts\n(.*?)```/s.exec(readme)?.[1];
  const output = execFileSync(process.execPath, ["--input-type=module-typescript"], {
    // Inside the package, so that the example can import the package by its name.
    cwd: new URL("..", import.meta.url),
    input: example,
    encoding: "utf8",
    timeout: 20_000,
  });
  expect(output).toBe("2\n");
});
