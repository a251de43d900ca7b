/**
 * Calls `listener` with each of these signals until disposed of. Meanwhile the
 * signals do not end the process by themselves.
 */
export function onSignals<S extends NodeJS.Signals>(
  names: readonly S[],
  listener: (name: S) => void,
): Disposable {
  for (const name of names) process.on(name, listener);
  return {
    [Symbol.dispose]: () => {
      for (const name of names) process.off(name, listener);
    },
  };
}

/** Calls `stop` with the first SIGINT or SIGTERM, and `stopNow` with every later one. */
export function onStopSignals(
  stop: (name: NodeJS.Signals) => void,
  stopNow: (name: NodeJS.Signals) => void,
): Disposable {
  let next = stop;
  return onSignals(["SIGINT", "SIGTERM"], (name) => {
    const current = next;
    next = stopNow;
    current(name);
  });
}
