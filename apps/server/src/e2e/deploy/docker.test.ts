import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { validate } from "dockerfile-utils";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { inRepository } from "../../testing/instruments.js";
import { temporaryDirectory } from "../../testing/temporary-directory.js";
import { readDockerfile } from "./dockerfile.test.fixture.js";

const FOLDER = inRepository("deploy/docker");
const COMPOSE = parse(readFileSync(join(FOLDER, "compose.yaml"), "utf8"), { merge: true });

interface Service {
  readonly image: string;
  readonly read_only: boolean;
  readonly cap_drop: readonly string[];
  readonly volumes?: readonly string[];
  readonly ports?: readonly string[];
}

const SERVICES: readonly (readonly [string, Service])[] = Object.entries(COMPOSE.services);

test("the Dockerfile has no fault that its linter knows, and a planted one is found", () => {
  const dockerfile = readDockerfile();
  expect(validate(dockerfile.text)).toEqual([]);
  const [fault] = validate(dockerfile.text.replace("WORKDIR /src", "WORKDIRR /src"));
  expect(fault?.message).toContain("Unknown instruction: WORKDIRR");
});

test("the image does not run as root, and asks its own server about its health", () => {
  const { argumentsOf, commandOf } = readDockerfile();
  expect(argumentsOf("FROM")).toHaveLength(2);
  expect(argumentsOf("USER")).toEqual(["65532:65532"]);
  expect(commandOf("HEALTHCHECK")).toEqual([...commandOf("ENTRYPOINT"), "health"]);
  const script = JSON.parse(readFileSync(inRepository("package.json"), "utf8")).scripts;
  expect(argumentsOf("RUN")[0]).toMatch(/^npx --yes pnpm@\S+ pack:server \/packed$/);
  expect(script["pack:server"]).toBe("pnpm build && node scripts/release/pack.ts");
});

test.each(SERVICES)(
  "compose's %s is read-only, without privileges, and on loopback alone",
  (_, service) => {
    expect(service).toMatchObject({
      read_only: true,
      cap_drop: ["ALL"],
      security_opt: ["no-new-privileges:true"],
    });
    // The server's image is built here; the others have a version.
    expect(service.image).toMatch(/^sessiond$|:v?\d+\.\d+/);
    for (const port of service.ports ?? []) expect(port).toMatch(/^127\.0\.0\.1:\d+:\d+$/);
    for (const volume of service.volumes ?? []) {
      const [source = ""] = volume.split(":");
      const isThere = source in COMPOSE.volumes || existsSync(join(FOLDER, source));
      expect(isThere, source).toBe(true);
    }
  },
);

test("compose's Prometheus accepts its configuration and the alerts", async () => {
  await using directory = await temporaryDirectory();
  const mounts: readonly string[] = COMPOSE.services.prometheus.volumes;
  for (const mount of mounts.filter((one) => one.endsWith(":ro"))) {
    const [source = "", target = ""] = mount.split(":");
    copyFileSync(join(FOLDER, source), join(directory.path, target.split("/").at(-1) ?? ""));
  }
  const args = ["check", "config", "prometheus.yml"];
  const { status, stderr } = spawnSync("promtool", args, { cwd: directory.path, encoding: "utf8" });
  expect([status, stderr]).toEqual([0, ""]);
});
