const REPEAT_MS = 60_000;

/**
 * Tells about once a minute for each key. The log must not repeat what happens each second, or as often
 * as an attacker likes.
 */
export function onceAMinute<T>(tell: (what: T) => void): (key: string, what: T) => void {
  const toldMs = new Map<string, number>();
  return (key, what) => {
    const nowMs = performance.now();
    if (nowMs < (toldMs.get(key) ?? 0)) return;
    toldMs.set(key, nowMs + REPEAT_MS);
    tell(what);
  };
}
