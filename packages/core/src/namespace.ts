/** 1 to 64 characters, so that a name is safe in every key, file and log line. */
const NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/;

/**
 * Whether `name` can be a namespace: "", or 1 to 64 characters out of a-z 0-9 . _ - that begin with
 * a letter or a digit.
 */
export function isNamespace(name: string): boolean {
  return name === "" || NAME.test(name);
}

/**
 * Throws an Error unless `name` can be a namespace. The name comes from configuration and verified
 * tokens, so any other name is a fault of the program. It could stand for keys of another namespace.
 */
export function assertNamespace(name: string): void {
  if (!isNamespace(name)) throw new Error(`not the name of a namespace: ${JSON.stringify(name)}`);
}
