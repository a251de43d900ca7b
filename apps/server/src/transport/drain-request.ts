import type { IncomingMessage } from "node:http";
import { DELIVERY_MS } from "./drain.js";
import type { Response } from "./http-messages.js";

/**
 * So much of a request is read after its answer. Most clients read no answer before they have sent all
 * of a request, and the largest by default is half of it.
 */
const MAX_DRAINED_BYTES = 8 * 1024 * 1024;

/**
 * Reads the rest of an HTTP/1.1 request once it has its answer, so that the connection can go on. If
 * the rest is long, stops reading, and cuts the connection when its client had time for the answer.
 */
export function drainAfter(request: IncomingMessage, response: Response): void {
  // Before Node's own listener, which would have the parser drop the rest for as long as it lasts.
  response.prependOnceListener("finish", () => {
    if (request.complete) {
      request.resume();
      return;
    }
    const { socket } = request;
    const cut = setTimeout(() => socket.destroy(), DELIVERY_MS).unref();
    let drainedBytes = 0;
    request.on("data", (chunk: Buffer) => {
      drainedBytes += chunk.length;
      if (drainedBytes > MAX_DRAINED_BYTES) request.pause();
    });
    request.once("end", () => clearTimeout(cut));
    // Node drops the rest only of a request that nobody has read from.
    request.read(0);
    request.resume();
  });
}
