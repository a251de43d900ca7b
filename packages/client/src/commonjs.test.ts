import { execFile } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import * as sdk from "./index.js";

const run = promisify(execFile);
const packageRoot = fileURLToPath(new URL("..", import.meta.url));

const caller = `
import { Code, createSessionClient, type Session, SessiondError } from "@sessiond/client";

const client = createSessionClient<{ theme: string }>({ baseUrl: "http://[::1]:1", token: "t" });
export async function theme(session: Session): Promise<string | undefined> {
  try {
    return (await client.getSession(session.id))?.data.theme;
  } catch (error) {
    if (error instanceof SessiondError && error.code === Code.Unavailable) return error.reason;
    throw error;
  }
}
// @ts-expect-error the types are there
export const mistake = () => createSessionClient({ baseUrl: 1, token: "t" });
`;

test("a CommonJS module has types and values", async () => {
  // Beside the build, where the package resolves itself by its name.
  const file = "dist/commonjs-caller.cts";
  await writeFile(`${packageRoot}/${file}`, caller);
  // TypeScript's later modes permit more.
  const mode = ["--module", "node18", "--target", "esnext", "--lib", "esnext", "--strict"];
  const compiler = [...mode, "--skipLibCheck", "--ignoreConfig", "--types", "node"];
  const options = { cwd: packageRoot };
  await run("../../node_modules/.bin/tsc", [...compiler, file], options);
  await run(process.execPath, [file.replace(".cts", ".cjs")], options);
}, 90_000);

test("a CommonJS module is told of every value of the package", async () => {
  const declared = await readFile(`${packageRoot}/commonjs.d.cts`, "utf8");
  const names = [...declared.matchAll(/^export declare const (\w+): typeof sdk\.\1;$/gm)];
  expect(names.map(([, name]) => name).toSorted()).toEqual(Object.keys(sdk).toSorted());
});
