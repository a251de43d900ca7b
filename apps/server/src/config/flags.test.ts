import { expect, test } from "vitest";
import { parseFlags } from "./flags.js";

const KNOWN = ["store", "log-level"];

test("a flag's value follows it or stands behind =", () => {
  const { values, faults } = parseFlags(["--store", "a", "--log-level=b"], KNOWN);
  expect(Object.fromEntries(values)).toEqual({ store: "a", "log-level": "b" });
  expect(faults).toEqual([]);
});

test("a value may hold = and, behind one, begin with dashes or be empty", () => {
  expect(parseFlags(["--store=a=--b"], KNOWN).values.get("store")).toBe("a=--b");
  expect(parseFlags(["--store=--b"], KNOWN).values.get("store")).toBe("--b");
  expect(parseFlags(["--store="], KNOWN).values.get("store")).toBe("");
  expect(parseFlags(["--store", "-5m"], KNOWN).values.get("store")).toBe("-5m");
});

test.each([
  [["--stroe", "hunter2"], ["--stroe: unknown flag (did you mean --store?)"]],
  [
    ["--stroe=hunter2", "x"],
    ["--stroe: unknown flag (did you mean --store?)", NOT_A_FLAG(2)],
  ],
  [["-s", "x"], ["-s: unknown flag"]],
  [["--no-store"], ["--no-store: unknown flag"]],
  [["--store"], ["--store: expected a value"]],
  [
    ["--store", "--log-level", "info"],
    ["--store: expected a value", NOT_A_FLAG(3)],
  ],
  [["--store=a", "--store=b"], ["--store: given twice"]],
  [["hunter2"], [NOT_A_FLAG(1)]],
  [["--", "--store"], [NOT_A_FLAG(2)]],
])("%j has these faults and shows no values", (argv, expected) => {
  expect(parseFlags(argv, KNOWN).faults).toEqual(expected);
});

test.each([
  ["b", '"b": not a flag; expected --name value'],
  ["10.0.0.1", '"10.0.0.1": not a flag; expected --name value'],
  ["redis://:hunter2@localhost", NOT_A_FLAG(4)],
  ["k1:aHVudGVyMg==", NOT_A_FLAG(4)],
  ["a".repeat(33), NOT_A_FLAG(4)],
])("behind three operands, %s is shown only if it is a plain word", (word, expected) => {
  expect(parseFlags([word], KNOWN, { operands: 3 }).faults).toEqual([expected]);
});

test.each([
  [["--dev"], "true", []],
  [["--dev=false"], "false", []],
  [["--dev", "--store", "a"], "true", []],
  [["--dev", "false"], "true", [NOT_A_FLAG(2)]],
  [["--dev", "--dev"], "true", ["--dev: given twice"]],
  [["--no-dev"], undefined, ["--no-dev: unknown flag"]],
])("%j turns a switch to %s", (argv, expected, faults) => {
  const parsed = parseFlags(argv, ["dev", ...KNOWN], { switches: ["dev"] });
  expect([parsed.values.get("dev"), parsed.faults]).toEqual([expected, faults]);
});

function NOT_A_FLAG(position: number): string {
  return `argument ${position}: not a flag; expected --name value`;
}
