import type { ExaminedConfig } from "../../../config/config.js";
import type { ConfigSources } from "../../../config/read-settings.js";
import type { IssuerProbe } from "../probes/probe-issuers.js";
import type { StoreProbe } from "../probes/probe-store.js";

/** What is wrong and what to do, a sentence each. No secrets. */
export interface Finding {
  /** A fault loses sessions, refuses callers or keeps the server from serving. */
  readonly severity: "warning" | "fault";
  readonly problem: string;
  readonly remedy: string;
}

/** What a check found. */
export interface Outcome {
  /** What it looked at, in a few words. */
  readonly summary: string;
  readonly findings?: readonly Finding[];
  /** What nobody can tell from here. */
  readonly unknown?: readonly string[];
}

/** Why a check could not be made. The check that names the cause has the finding. */
export interface Skipped {
  readonly skipped: string;
}

/** What all checks look at. */
export interface Subject {
  readonly sources: ConfigSources;
  readonly config: ExaminedConfig;
  readonly store: Promise<StoreProbe>;
  readonly issuers: Promise<readonly IssuerProbe[]>;
}

/** Looks at one thing. Undefined if the configuration has no such thing. Changes nothing. */
export type Check = (subject: Subject) => Promise<Outcome | Skipped | undefined>;

export const fault = (problem: string, remedy: string): Finding => ({
  severity: "fault",
  problem,
  remedy,
});

export const warning = (problem: string, remedy: string): Finding => ({
  severity: "warning",
  problem,
  remedy,
});
