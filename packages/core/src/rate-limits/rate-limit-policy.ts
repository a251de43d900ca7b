import { formatDuration, parseDuration } from "../duration.js";
import { quote, withoutSecrets } from "../errors.js";
import type { RateLimitWindow } from "./rate-limit-store.js";

/** A named rule for how many attempts are allowed. */
export interface RateLimitPolicy {
  readonly name: string;
  /** At least one. Every window must have room for an attempt. */
  readonly windows: readonly RateLimitWindow[];
  /** Whether refused attempts count too, so that a caller who keeps trying stays out. */
  readonly countRefused: boolean;
  /** What happens to an attempt while the store cannot count it. */
  readonly whenUnavailable: "refuse" | "allow";
}

/** The maxima of policies. */
export const RATE_LIMIT_BOUNDS = {
  policies: 100,
  windows: 8,
  /** Stores keep each attempt that counts, so this bounds the memory of a key. */
  limit: 10_000,
  windowMs: 365 * 86_400_000,
} as const;

/** The policies of a server without configured policies. */
export const DEFAULT_RATE_LIMITS = "login: 10 per 15m";

const NAME = /^[a-z][a-z0-9_-]{0,63}$/;
/** `name: windows (options)`. Other functions check the parts. */
const POLICY = /^([^:]*):([^()]*)(?:\(([^()]*)\))?$/;
const WINDOW = /^(\d{1,9})\s+per\s+(\S+)$/;
const OPTIONS = ["count refused", "allow when unavailable"] as const;

/**
 * Reads policies: `login: 10 per 15m, 50 per 24h; signup: 3 per 1h (count refused)`. The options in
 * parentheses are `count refused` (refused attempts count too) and `allow when unavailable`
 * (attempts pass while the store is down). Throws an Error that names the policy.
 */
export function parseRateLimitPolicies(text: string): readonly RateLimitPolicy[] {
  const policies = text.split(";").map(parsePolicy);
  if (policies.length > RATE_LIMIT_BOUNDS.policies) {
    throw new Error(`expected at most ${RATE_LIMIT_BOUNDS.policies} policies`);
  }
  const names = policies.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw new Error(`policy "${twice}": expected to be there once`);
  return policies;
}

function parsePolicy(text: string): RateLimitPolicy {
  const [, name, windows, options] = POLICY.exec(text.trim())?.map((part) => part?.trim()) ?? [];
  if (name === undefined || windows === undefined) {
    const got = text.trim();
    const where = got === "" ? "" : `policy ${quote(withoutSecrets(got))}: `;
    throw new Error(`${where}expected a policy such as "${DEFAULT_RATE_LIMITS}"`);
  }
  if (!NAME.test(name)) {
    throw new Error(
      `policy ${quote(withoutSecrets(name))}: expected a name of 1 to 64 characters out of a-z 0-9 _ - ` +
        "that begins with a letter",
    );
  }
  try {
    return { name, windows: parseRateLimitWindows(windows), ...parseOptions(options) };
  } catch (error) {
    throw new Error(`policy "${name}": ${(error as Error).message}`);
  }
}

/** Reads windows: `10 per 15m, 50 per 24h`. Throws an Error that says what was expected. */
export function parseRateLimitWindows(text: string): readonly RateLimitWindow[] {
  const windows = text.split(",").map((part) => parseWindow(part.trim()));
  if (windows.length > RATE_LIMIT_BOUNDS.windows) {
    throw new Error(`expected at most ${RATE_LIMIT_BOUNDS.windows} windows`);
  }
  const lengths = windows.map(({ windowMs }) => windowMs);
  const twice = lengths.find((length, i) => lengths.indexOf(length) !== i);
  if (twice !== undefined) {
    throw new Error(`expected one limit per ${formatDuration(twice)}`);
  }
  return windows;
}

function parseWindow(text: string): RateLimitWindow {
  const [, count, duration] = WINDOW.exec(text) ?? [];
  if (count === undefined || duration === undefined) {
    const got = text === "" ? "" : `, not ${quote(withoutSecrets(text))}`;
    throw new Error(`expected a limit such as "10 per 15m"${got}`);
  }
  const limit = Number(count);
  if (limit < 1 || limit > RATE_LIMIT_BOUNDS.limit) {
    throw new Error(`expected a limit from 1 to ${RATE_LIMIT_BOUNDS.limit}, not ${count}`);
  }
  const windowMs = parseDuration(duration);
  if (windowMs > RATE_LIMIT_BOUNDS.windowMs) {
    const most = formatDuration(RATE_LIMIT_BOUNDS.windowMs);
    throw new Error(`expected a window of at most ${most}, not ${duration}`);
  }
  return { limit, windowMs };
}

function parseOptions(
  text: string | undefined,
): Pick<RateLimitPolicy, "countRefused" | "whenUnavailable"> {
  const options = text?.split(",").map((option) => option.trim().replace(/\s+/g, " ")) ?? [];
  const unknown = options.find((option) => !OPTIONS.some((known) => known === option));
  if (unknown !== undefined) {
    const expected = OPTIONS.map((option) => `"${option}"`).join(" or ");
    throw new Error(
      `expected ${expected} in the parentheses, not ${quote(withoutSecrets(unknown))}`,
    );
  }
  return {
    countRefused: options.includes("count refused"),
    whenUnavailable: options.includes("allow when unavailable") ? "allow" : "refuse",
  };
}
