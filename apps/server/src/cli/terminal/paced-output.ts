import type { TextOutput } from "../command/command.js";

/** The reader of stdout has gone, as `head` does when it has enough. */
export class ReaderGoneError extends Error {}

/**
 * Resolves when the text is out, so that a reader who is slow makes the program wait, and not its
 * memory grow. Rejects with a ReaderGoneError if nobody reads on.
 */
export function writePaced(output: TextOutput, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    output.write(text, (error) => {
      if (!error) resolve();
      else if ("code" in error && error.code === "EPIPE") reject(new ReaderGoneError());
      else reject(error);
    });
  });
}
