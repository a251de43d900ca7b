import type { RateLimitState, RateLimitWindow } from "./rate-limit-store.js";

/** How a key stands in one of its windows. */
export interface WindowStanding {
  readonly window: RateLimitWindow;
  /** The cost of what counts; more than the limit where refused attempts count as well. */
  readonly used: number;
  /** How long until the attempt that was asked about has room in it. */
  readonly retryAfterMs: number;
  readonly resetTimeMs: number;
}

/** Sums up how a key stands in its windows, of which there is at least one. */
export function summarize(
  isAllowed: boolean,
  standings: readonly WindowStanding[],
): RateLimitState {
  const [first, ...others] = standings;
  if (first === undefined) throw new RangeError("expected at least one window");
  const tightest = others.reduce((a, b) => (isTighter(b, a) ? b : a), first);
  return {
    isAllowed,
    window: tightest.window,
    remaining: remainingIn(tightest),
    retryAfterMs: isAllowed ? 0 : Math.max(...standings.map(({ retryAfterMs }) => retryAfterMs)),
    resetTimeMs: tightest.resetTimeMs,
  };
}

function isTighter(a: WindowStanding, b: WindowStanding): boolean {
  const difference = remainingIn(a) - remainingIn(b);
  return difference < 0 || (difference === 0 && a.window.windowMs > b.window.windowMs);
}

function remainingIn({ window, used }: WindowStanding): number {
  return Math.max(0, window.limit - used);
}
