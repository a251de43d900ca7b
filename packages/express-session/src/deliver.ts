/** A callback as express-session and @fastify/session pass it. */
export type Callback<T> = (error: unknown, value?: T) => void;

/** Hands an outcome to the callback if there is one, and otherwise returns its promise. */
export function deliver<T>(outcome: Promise<T>, callback?: Callback<T>): Promise<T> | undefined {
  if (callback === undefined) return outcome;
  outcome.then((value) => callback(null, value), callback);
  return undefined;
}
