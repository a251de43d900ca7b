/**
 * Decodes the JSON of requests, and remembers the last until it is taken: Connect's error of one
 * that is refused holds nothing of it. Unary calls of Connect are refused before anything else is
 * decoded; elsewhere the last may be another call's.
 */
export class JsonDecoder {
  // Invalid UTF-8 is refused; to replace it would make one user id of many.
  readonly #decoder = new TextDecoder("utf-8", { fatal: true });
  #last: Uint8Array | undefined;

  /** What was decoded last, also where that failed, and undefined the second time. */
  take(): Uint8Array | undefined {
    const last = this.#last;
    this.#last = undefined;
    return last;
  }

  decode(bytes: Uint8Array = new Uint8Array()): string {
    this.#last = bytes;
    return this.#decoder.decode(bytes);
  }
}
