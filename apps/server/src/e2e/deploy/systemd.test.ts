import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseEnv } from "node:util";
import { expect, test } from "vitest";
import { unknownVariables } from "../../config/environment.js";
import { SETTING_LIST } from "../../config/settings.js";
import { inRepository } from "../../testing/instruments.js";
import { temporaryDirectory } from "../../testing/temporary-directory.js";

const FOLDER = inRepository("deploy/systemd");
/** In tenths: systemd's scale goes from 0, for nothing at all, to 10. */
const MAX_EXPOSURE = 14;

/** Runs systemd-analyze on the unit, with the Node of this process and after a change. */
async function analyze(args: readonly string[], change = (unit: string) => unit) {
  await using directory = await temporaryDirectory();
  const unit = readFileSync(join(FOLDER, "sessiond.service"), "utf8");
  const file = join(directory.path, "sessiond.service");
  writeFileSync(file, change(unit.replace("/usr/bin/node", process.execPath)));
  const { status, stdout, stderr } = spawnSync("systemd-analyze", [...args, file], {
    encoding: "utf8",
  });
  return { status, stdout, stderr };
}

/** A key that systemd ignores with a warning, so that the service starts without protection. */
const misspelt = (unit: string) => unit.replace("CapabilityBoundingSet=", "CapabilityBoundigSet=");

test("systemd understands every line of the unit, and a planted mistake is found", async () => {
  expect(await analyze(["verify"])).toEqual({ status: 0, stdout: "", stderr: "" });
  const { stderr } = await analyze(["verify"], misspelt);
  expect(stderr).toContain("Unknown key");
});

test("the unit leaves the server little that it could do to the machine", async () => {
  const security = ["security", "--offline=true", `--threshold=${MAX_EXPOSURE}`];
  const { status, stdout } = await analyze(security);
  expect(status, stdout).toBe(0);
  expect((await analyze(security, misspelt)).status).not.toBe(0);
});

test("the server knows every setting in the unit's example", () => {
  const text = readFileSync(join(FOLDER, "sessiond.env"), "utf8").replaceAll(
    /^#(?=SESSIOND_)/gm,
    "",
  );
  const env = parseEnv(text);
  expect(Object.keys(env)).toContain("SESSIOND_TLS_CERT");
  expect(
    unknownVariables(
      env,
      SETTING_LIST.map((setting) => setting.env),
    ),
  ).toEqual([]);
});
