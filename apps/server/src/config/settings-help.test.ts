import { expect, test } from "vitest";
import { describeSettings } from "./settings-help.js";

test("help names every setting by flag and variable, with its default, within 80 columns", () => {
  const help = describeSettings();
  for (const name of ["GRPC_ADDRESS", "STORE", "KEYRING", "AUTH", "RETENTION", "DATA_DIR"]) {
    expect(help).toContain(`SESSIOND_${name}\n`);
    expect(help).toContain(`--${name.toLowerCase().replaceAll("_", "-")} `);
  }
  expect(help).toContain("(default 127.0.0.1:50051)");
  expect(help).not.toContain("`");
  expect(Math.max(...help.split("\n").map((line) => line.length))).toBeLessThanOrEqual(80);
});
