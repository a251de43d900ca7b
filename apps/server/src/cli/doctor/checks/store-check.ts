import { describeStore } from "../../../config/store-location.js";
import { type Check, fault, warning } from "./check.js";
import { counted } from "./texts.js";

/** The store answers, and its sessions can be read. */
export const storeCheck: Check = async ({ config, store }) => {
  const probe = await store;
  if (probe.state === "unknown") return { skipped: probe.why };
  const location = config.storeConfig?.store;
  const summary = location === undefined ? "" : describeStore(location);
  switch (probe.state) {
    case "missing":
      return { summary, unknown: ["whether the store should exist: a server will make a new one"] };
    case "old":
      return { summary: `${summary}, which the next start brings up to date` };
    case "down":
      return { summary, findings: [fault(`The store cannot be used: ${probe.error}.`, REMEDY)] };
    case "up":
      break;
  }
  if ("error" in probe.content) {
    const problem = `The store answers, but its sessions cannot be read: ${probe.content.error}.`;
    return { summary, findings: [fault(problem, RIGHTS_REMEDY)] };
  }
  const inMemory = location?.kind === "sqlite" && location.path === ":memory:";
  return {
    summary: inMemory
      ? summary
      : `${summary}, ${counted(probe.content.sessions, "active session")}`,
    findings: inMemory ? [IN_MEMORY] : [],
  };
};

const REMEDY =
  "Start it, or correct SESSIOND_STORE; docs/operations.md, “The store does not answer”, says more.";
const RIGHTS_REMEDY =
  "Give its user all commands on the keys of the prefix, as docs/redis.md says, on Redis 7 or newer.";
const IN_MEMORY = warning(
  "The store is in memory, so a restart of the server ends every session.",
  "Name a file or a Redis in SESSIOND_STORE.",
);
