/** The messages of an error and its causes in one line: `fetch failed: connect ECONNREFUSED …`. */
export function withCauses({ message, cause }: Error): string {
  return cause instanceof Error ? `${message}: ${withCauses(cause)}` : message;
}
