import type { Response } from "./http-messages.js";
import type { Readiness } from "./readiness.js";

/** Answers `/healthz` and `/readyz`. Returns false for any other path. */
export function answerProbe(
  readiness: Readiness,
  path: string | undefined,
  response: Response,
): boolean {
  switch (path) {
    case "/healthz":
      respond(response, 200, "text/plain; charset=utf-8", "ok\n");
      return true;
    case "/readyz": {
      const report = `${JSON.stringify(readiness.describe(), undefined, 2)}\n`;
      respond(response, readiness.isReady ? 200 : 503, "application/json", report);
      return true;
    }
    default:
      return false;
  }
}

function respond(response: Response, status: number, type: string, text: string): void {
  response.statusCode = status;
  response.setHeader("content-type", type);
  response.end(text);
}
