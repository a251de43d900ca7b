import { formatDuration } from "@sessiond/core";
import { type Check, type Finding, fault, type Subject, warning } from "./check.js";
import { counted } from "./texts.js";

/** Far more than clocks differ that follow NTP. */
const MAX_STORE_SKEW_MS = 1_000;

/** A clock that was compared with this machine's. */
interface Compared {
  readonly name: string;
  readonly offsetMs: readonly [least: number, most: number];
  readonly toleranceMs: number;
  readonly judge: (problem: string) => Finding;
}

/** Server, store and issuers have the same time. */
export const clocksCheck: Check = async (subject) => {
  const compared = [...(await storeClocks(subject)), ...(await issuerClocks(subject))];
  if (compared.length === 0) return { skipped: "no other clock answers" };
  const { storeConfig } = subject.config;
  return {
    summary: `${counted(compared.length, "clock")} compared with this machine's`,
    findings: compared.flatMap(findingOf),
    unknown:
      storeConfig?.store.kind === "sqlite" ? ["whether this machine's own clock is right"] : [],
  };
};

async function storeClocks({ store }: Subject): Promise<readonly Compared[]> {
  const probe = await store;
  if (probe.state !== "up") return [];
  return probe.nodes.map(({ name, clockOffsetMs }) => ({
    name,
    offsetMs: clockOffsetMs,
    toleranceMs: MAX_STORE_SKEW_MS,
    judge: (problem) => warning(`${problem}, and sessions live by the time of the store.`, NTP),
  }));
}

async function issuerClocks({ issuers }: Subject): Promise<readonly Compared[]> {
  return (await issuers).flatMap(({ config, clockOffsetMs }) =>
    clockOffsetMs === undefined
      ? []
      : {
          name: `the issuer ${config.issuer}`,
          offsetMs: clockOffsetMs,
          toleranceMs: config.clockToleranceMs,
          judge: (problem) =>
            fault(`${problem}, so tokens are refused before their time or after it.`, NTP),
        },
  );
}

function findingOf({ name, offsetMs: [least, most], toleranceMs, judge }: Compared): Finding[] {
  const skewMs = Math.round(least > 0 ? least : Math.min(most, 0));
  if (Math.abs(skewMs) <= toleranceMs) return [];
  const skew = `${formatDuration(Math.abs(skewMs))} ${skewMs > 0 ? "ahead of" : "behind"}`;
  return [judge(`The clock of ${name} is ${skew} this machine's`)];
}

const NTP = "Have both follow NTP (chronyc tracking, timedatectl).";
