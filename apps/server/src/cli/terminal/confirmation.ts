import { createInterface } from "node:readline/promises";

/**
 * Asks a question on the terminal of this process. True for `y` and `yes`. Undefined if there is
 * no terminal that could be asked: then stdin may be anything, and no answer.
 */
export async function askOnTerminal(question: string): Promise<boolean | undefined> {
  if (!process.stdin.isTTY) return undefined;
  process.stderr.write(`${question} [y/N] `);
  // The terminal itself edits the line, and its Ctrl-C ends the process as usual.
  const reader = createInterface({ input: process.stdin, terminal: false });
  try {
    for await (const line of reader) return /^y(es)?$/i.test(line.trim());
    process.stderr.write("\n");
    return false;
  } finally {
    reader.close();
  }
}
