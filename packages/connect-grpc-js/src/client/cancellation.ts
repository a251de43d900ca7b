/** What to do when a signal aborts. */
const cancellations = new WeakMap<AbortSignal, Set<() => void>>();

/**
 * Runs `cancel` when the signal aborts, until the returned function is called.
 *
 * A signal has one listener, however many calls it has: an EventTarget compares each new listener
 * with all others, so that thousands of calls with the signal of one client would cost the square.
 */
export function onAbort(signal: AbortSignal, cancel: () => void): () => void {
  const known = cancellations.get(signal) ?? listenTo(signal);
  known.add(cancel);
  return () => known.delete(cancel);
}

function listenTo(signal: AbortSignal): Set<() => void> {
  const all = new Set<() => void>();
  cancellations.set(signal, all);
  const cancelAll = () => {
    for (const cancel of [...all]) cancel();
  };
  signal.addEventListener("abort", cancelAll, { once: true });
  return all;
}
