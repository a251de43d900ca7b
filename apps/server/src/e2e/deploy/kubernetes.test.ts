import { spawnSync } from "node:child_process";
import { globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Keyring } from "@sessiond/core";
import { TestAuthority } from "@sessiond/core/testing";
import { expect, onTestFinished, test } from "vitest";
import { parse } from "yaml";
import { loadConfig } from "../../config/config.js";
import { inRepository } from "../../testing/instruments.js";
import { temporaryDirectory } from "../../testing/temporary-directory.js";

const FOLDER = inRepository("deploy/kubernetes");
/** Kustomize's and Helm's, which are no resources of the API. */
const NO_RESOURCES = ["kustomization.yaml", "prometheus-adapter.yaml"];
/** Each resource's file and text. */
const MANIFESTS = globSync("*.yaml", { cwd: FOLDER })
  .filter((name) => !NO_RESOURCES.includes(name))
  .map((name) => [name, readFileSync(join(FOLDER, name), "utf8")] as const);
const DEPLOYMENT = readFileSync(join(FOLDER, "deployment.yaml"), "utf8");

interface Resource {
  readonly apiVersion: string;
  readonly kind: string;
}

/** A resource that the JSON Schemas of the API can check. */
type Model = new (resource: Resource) => { validate(): void };

/** What the JSON Schemas of the API say against a manifest: missing, mistyped and unexpected values. */
async function schemaFaults(text: string): Promise<string> {
  const resource: Resource = parse(text);
  const models: Record<string, Model> = await import(
    `kubernetes-models/${resource.apiVersion}/${resource.kind}`
  );
  const ModelOfKind = models[resource.kind];
  if (ModelOfKind === undefined) return `no ${resource.kind} in ${resource.apiVersion}`;
  try {
    new ModelOfKind(resource).validate();
    return "";
  } catch (error) {
    return String(error);
  }
}

/** What TypeScript says: the schemas allow fields that nobody knows, and the API refuses or ignores them. */
function unknownFields(texts: readonly string[]): string {
  // Where packages resolve as they do for the repository, and no package is packed from.
  const cache = inRepository("node_modules/.cache");
  mkdirSync(cache, { recursive: true });
  const folder = mkdtempSync(join(cache, "manifests-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  for (const [index, text] of texts.entries()) {
    const { apiVersion, kind } = parse(text) as Resource;
    const type = `import type { I${kind} } from "kubernetes-models/${apiVersion}/${kind}";`;
    const value = JSON.stringify(parse(text), undefined, 2);
    writeFileSync(join(folder, `${index}.mts`), `${type}\nexport const it: I${kind} = ${value};\n`);
  }
  const options = ["--ignoreConfig", "--noEmit", "--strict", "--skipLibCheck"];
  const args = [...options, "--module", "nodenext", ...globSync("*.mts", { cwd: folder })];
  return spawnSync(inRepository("node_modules/.bin/tsc"), args, { cwd: folder, encoding: "utf8" })
    .stdout;
}

test.each(MANIFESTS)("%s is as the Kubernetes API expects it", async (_, text) => {
  expect(await schemaFaults(text)).toBe("");
});

function planted(from: string, to: string): string {
  expect(DEPLOYMENT).toContain(from);
  return DEPLOYMENT.replace(from, to);
}

test("a mistyped value and an impossible one are found", async () => {
  const duration = planted("periodSeconds: 10", "periodSeconds: 10s");
  expect(await schemaFaults(duration)).toContain("livenessProbe/periodSeconds must be integer");
  expect(await schemaFaults(planted("scheme: HTTPS", "scheme: TLS"))).toContain("allowed values");
});

test("no manifest has a field that the Kubernetes API does not know, and a planted one is found", () => {
  const mistaken = planted("readinessProbe:", "readynessProbe:");
  const faults = unknownFields([...MANIFESTS.map(([, text]) => text), mistaken])
    .trim()
    .split("\n");
  expect(faults).toEqual([expect.stringContaining(`'"readynessProbe"' does not exist`)]);
});

interface Container {
  readonly env: readonly { readonly name: string; readonly value: string }[];
  readonly ports: readonly { readonly name: string; readonly containerPort: number }[];
}

test("the server takes the settings of the deployment, and listens where its probes and services look", async () => {
  await using directory = await temporaryDirectory();
  using authority = new TestAuthority();
  const issued = authority.issue();
  const files: Readonly<Record<string, string | Buffer>> = {
    keyring: Keyring.generateKey("test"),
    store: "rediss://sessiond:secret@redis.example.com:6379",
    "auth.json": readFileSync(join(FOLDER, "auth.json")),
    "tls.crt": readFileSync(issued.cert),
    "tls.key": readFileSync(issued.key),
  };
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(directory.path, name), content);
  }
  const [container] = parse(DEPLOYMENT).spec.template.spec.containers as readonly [Container];
  const env = container.env.map(({ name, value }) => [
    name,
    value.replace(/^\/etc\/sessiond\/\w+/, directory.path),
  ]);
  const config = await loadConfig({ argv: [], env: Object.fromEntries(env) });
  expect(container.ports.map(({ name, containerPort }) => [name, containerPort])).toEqual([
    ["grpc", config.grpcAddress.port],
    ["http", config.httpAddress.port],
    ["metrics", config.metricsAddress?.port],
  ]);
  // Probes, services and policies name the ports.
  const named = MANIFESTS.flatMap(([, text]) => [
    ...text.matchAll(/\b(?:targetPort|port): ([a-z]+)/g),
  ]);
  expect(new Set(named.map(([, name]) => name))).toEqual(new Set(["grpc", "http", "metrics"]));
});
