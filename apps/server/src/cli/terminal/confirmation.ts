import { createInterface } from "node:readline/promises";

/**
 * Asks a question on the terminal of this process. True for `y` and `yes`. Only if stdin is a
 * terminal: anything else is no answer.
 */
export async function askOnTerminal(question: string): Promise<boolean> {
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
