/**
 * Decodes the JSON of requests, and remembers the last: Connect's error of one that is refused
 * holds nothing of it, and is thrown before anything else is decoded.
 */
export class JsonDecoder {
  // Invalid UTF-8 is refused; to replace it would make one user id of many.
  readonly #decoder = new TextDecoder("utf-8", { fatal: true });
  #last: Uint8Array = new Uint8Array();

  /** What was decoded last, also where that failed. At most a message long. */
  get last(): Uint8Array {
    return this.#last;
  }

  decode(bytes: Uint8Array = new Uint8Array()): string {
    this.#last = bytes;
    return this.#decoder.decode(bytes);
  }
}
