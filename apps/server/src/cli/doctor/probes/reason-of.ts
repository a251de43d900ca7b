/** The message of an error and of its causes on one line. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { message, cause } = error;
  // What tries several addresses says nothing but its code.
  const own = message || ("code" in error ? String(error.code) : error.name);
  return cause === undefined ? own : `${own}: ${reasonOf(cause)}`;
}
