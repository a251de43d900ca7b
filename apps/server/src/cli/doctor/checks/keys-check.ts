import { stat } from "node:fs/promises";
import { formatDuration, type Keyring, type SessionSurvey } from "@sessiond/core";
import { FILE_SUFFIX } from "../../../config/environment.js";
import { SETTINGS } from "../../../config/settings.js";
import { type Check, type Finding, fault, type Subject, warning } from "./check.js";
import { counted } from "./texts.js";

const DAY_MS = 86_400_000;
/** Half of what NIST allows a key that encrypts (SP 800-57 Part 1, 5.3.6). */
const MAX_KEY_AGE_MS = 365 * DAY_MS;

/** The keyring opens every session, and has no key that is too old or of no use. */
export const keysCheck: Check = async ({ config: { values, given }, sources, store }) => {
  const { keyring } = values;
  if (keyring === undefined) {
    return { skipped: given.has("keyring") ? "the keyring is at fault" : "no keyring is set" };
  }
  const unchangedMs = await unchangedFor(sources);
  const probe = await store;
  const content = probe.state === "up" ? probe.content : undefined;
  const survey = content !== undefined && "survey" in content ? content.survey : undefined;
  return {
    summary: `${keyring.keyIds.join(", ")}; ${survey?.seen ?? 0} sessions looked at`,
    findings: [
      ...(unchangedMs === undefined ? [] : ageFindings(keyring, unchangedMs)),
      ...(survey === undefined ? [] : sealingFindings(keyring, survey)),
    ],
    unknown: [
      ...(unchangedMs === undefined ? ["how old the keys are: they are in no file"] : []),
      ...(survey?.isComplete ? [] : ["whether all sessions can be read"]),
    ],
  };
};

/** Since when the file has not changed. Its first key seals for at least as long. */
async function unchangedFor({ env, argv }: Subject["sources"]): Promise<number | undefined> {
  const path = env[SETTINGS.keyring.env + FILE_SUFFIX];
  const isFlag = argv.some((argument) => argument.startsWith(`--${SETTINGS.keyring.flag}=`));
  if (!path || isFlag) return undefined;
  return Date.now() - (await stat(path)).mtimeMs;
}

function ageFindings(keyring: Keyring, unchangedMs: number): readonly Finding[] {
  if (unchangedMs < MAX_KEY_AGE_MS) return [];
  const age = formatDuration(Math.floor(unchangedMs / DAY_MS) * DAY_MS);
  return [
    warning(
      `The key "${keyring.activeKeyId}" has sealed sessions for at least ${age}.`,
      "Rotate it, as docs/key-rotation.md says.",
    ),
  ];
}

function sealingFindings(keyring: Keyring, survey: SessionSurvey): readonly Finding[] {
  const unreadable = [...survey.keys].filter(([, { unreadable }]) => unreadable > 0);
  const unused = survey.isComplete
    ? keyring.keyIds.slice(1).filter((kid) => !survey.keys.has(kid))
    : [];
  return [
    ...unreadable.map(([kid, { unreadable }]) => unreadableFinding(keyring, kid, unreadable)),
    ...unused.map((kid) =>
      warning(
        `No session is sealed under the key "${kid}".`,
        "If it is new, put it in front; if it is old, remove it 10 minutes after its last use (docs/key-rotation.md).",
      ),
    ),
  ];
}

function unreadableFinding(keyring: Keyring, kid: string, count: number): Finding {
  const sessions = counted(count, "session");
  if (kid !== "" && !keyring.keyIds.includes(kid)) {
    return fault(
      `The keyring lacks the key "${kid}", and ${sessions} cannot be read without it.`,
      "Put it back behind the first key; docs/operations.md, “The keyring is lost”, says more.",
    );
  }
  const why = kid === "" ? "damaged" : `damaged, or sealed under another key of the name "${kid}"`;
  return fault(
    `The records of ${sessions} are ${why}.`,
    "Compare the keyrings of all servers; docs/operations.md, “The keyring is lost”, says more.",
  );
}
