// Checks the pages of this repository: each relative link leads to a file, each anchor to a heading,
// and a quoted title to the test of that name. Each source file that is named is there. The page for
// operators has every message that the server logs as a warning or an error. bash can parse each block of
// commands, and the server knows each setting that docs/ names. The index of docs/ has each page of it.
import { spawnSync } from "node:child_process";
import { existsSync, globSync, readFileSync, statSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { unknownVariables } from "../apps/server/dist/config/environment.js";
import { SETTING_LIST } from "../apps/server/dist/config/settings.js";

const PAGES = globSync("**/*.md", {
  exclude: (name) =>
    ["node_modules", "dist", ".sessiond"].includes(String(name).split("/").at(-1) ?? ""),
});
const LINK = /\[((?:[^\][]|\[[^\]]*\])*)\]\(([^)\s]+)\)/g;
const FENCE = /^(```|~~~)[\s\S]*?^\1/gm;
const SOURCES = globSync(["*.ts", "{apps,packages,bench,examples,scripts}/**/*.ts"], {
  exclude: (name) => ["node_modules", "dist"].includes(String(name).split("/").at(-1) ?? ""),
});
const NAMED_SOURCE = /`((?:[\w-]+\/)*[\w-]+(?:\.[\w-]+)*\.ts)`/g;
/** The second argument of pino's methods: its text, or as much as stands before a `${`. */
const LOGGED = /[lL]ogger\.(?:warn|error|fatal)\(\s*(?:\{[^{}]*\}|\w+),\s*(?:"([^"]+)"|`([^`$]+))/g;
const OPERATIONS = "docs/operations.md";
const INDEX = "docs/README.md";

const COMMANDS = /^( *)```(?:sh|bash)\n([\s\S]*?)^\1```/gm;
const VARIABLE = /\bSESSIOND_[A-Z_]*[A-Z]\b(?!_)/g;
/** Variables of tests, and a typo that a page shows. */
const NO_SETTINGS = ["SESSIOND_WEB_RUNS", "SESSIOND_NEAR_CACHE_RUNS", "SESSIOND_STOR"];
const SETTING_NAMES = SETTING_LIST.map(({ env }) => env);

const faults = [
  ...PAGES.flatMap((page) =>
    linksOf(page).flatMap(({ text, target }) => {
      const fault = faultOf(page, text, target);
      return fault === undefined ? [] : [`${page}: ${target}: ${fault}`];
    }),
  ),
  ...PAGES.flatMap((page) =>
    [...readFileSync(page, "utf8").matchAll(NAMED_SOURCE)]
      .filter(([, name]) => !SOURCES.some((file) => `/${file}`.endsWith(`/${name}`)))
      .map(([, name]) => `${page}: ${name}: no such source file`),
  ),
  ...PAGES.flatMap((page) => brokenCommands(page).map((fault) => `${page}: ${fault}`)),
  ...PAGES.filter((page) => page.startsWith("docs/")).flatMap((page) =>
    unknownSettings(page).map((fault) => `${page}: ${fault}`),
  ),
  ...unlistedPages().map((page) => `${INDEX}: ${page} is missing`),
  ...unexplainedMessages().map((message) => `${OPERATIONS}: the log's "${message}" is missing`),
];
if (faults.length > 0) {
  console.error(faults.join("\n"));
  process.exit(1);
}

function unlistedPages(): readonly string[] {
  const listed = linksOf(INDEX).map(({ target }) => join("docs", target.split("#", 1)[0] ?? ""));
  return PAGES.filter(
    (page) => dirname(page) === "docs" && page !== INDEX && !listed.includes(page),
  );
}

/** What bash says about a page's blocks of commands. It runs none of them. */
function brokenCommands(page: string): readonly string[] {
  const blocks = [...readFileSync(page, "utf8").matchAll(COMMANDS)].map(([, , code]) => code);
  if (blocks.length === 0) return [];
  const input = blocks.join("\n");
  const { stderr } = spawnSync("bash", ["-n"], { input, encoding: "utf8" });
  return stderr.split("\n").filter(Boolean);
}

function unknownSettings(page: string): readonly string[] {
  const names = readFileSync(page, "utf8").match(VARIABLE) ?? [];
  const env = Object.fromEntries(names.map((name) => [name, "x"]));
  return unknownVariables(env, [...SETTING_NAMES, ...NO_SETTINGS]);
}

function unexplainedMessages(): string[] {
  const explained = readFileSync(OPERATIONS, "utf8");
  return SOURCES.filter((file) => file.startsWith("apps/server/src/") && !file.includes(".test."))
    .flatMap((file) => [...readFileSync(file, "utf8").matchAll(LOGGED)])
    .map(([, whole, start]) => (whole ?? start?.split(":", 1)[0] ?? "").trim())
    .filter((message) => !explained.includes(`\`${message}`));
}

function linksOf(page: string) {
  const prose = readFileSync(page, "utf8").replaceAll(FENCE, "");
  return [...prose.matchAll(LINK)].map(([, text = "", target = ""]) => ({ text, target }));
}

/** What is wrong with a link, or undefined. */
function faultOf(page: string, text: string, target: string): string | undefined {
  if (/^[a-z]+:/.test(target)) return undefined;
  const [path = "", anchor] = decodeURI(target).split("#");
  const file = path === "" ? page : normalize(join(dirname(page), path));
  if (!existsSync(file)) return "no such file";
  if (anchor !== undefined && !anchorsOf(file).has(anchor)) return "no such heading";
  const title = /^"(.+)"$/s.exec(text.replaceAll(/\s+/g, " "))?.[1];
  if (title !== undefined && !readFileSync(file, "utf8").includes(JSON.stringify(title))) {
    return `no test "${title}"`;
  }
  return undefined;
}

/** The anchors that GitHub makes of a page's headings. */
function anchorsOf(file: string): ReadonlySet<string> {
  const anchors = new Set<string>();
  if (!statSync(file).isFile() || !file.endsWith(".md")) return anchors;
  const prose = readFileSync(file, "utf8").replaceAll(FENCE, "");
  for (const [, heading = ""] of prose.matchAll(/^#+ +(.+)$/gm)) {
    const text = heading.replaceAll(LINK, "$1").trim().toLowerCase();
    const slug = text.replaceAll(/[^\p{L}\p{N}\s_-]/gu, "").replaceAll(" ", "-");
    let anchor = slug;
    for (let i = 1; anchors.has(anchor); i++) anchor = `${slug}-${i}`;
    anchors.add(anchor);
  }
  return anchors;
}
