import { createSessionClient, type SessionClient, type SessiondError } from "@sessiond/client";
import { mintDevelopmentToken } from "../../auth/development-keys.js";
import { EXIT_UNAVAILABLE, EXIT_USAGE } from "../command/exit-codes.js";
import type { ReportOutput } from "../command/progress-report.js";
import type { RemoteServer } from "./remote-server.js";

/** How long a development token is good for, and how long before it ends another is made. */
const TOKEN_TTL_MS = 10 * 60_000;
const TOKEN_REST_MS = 5 * 60_000;

/** Prepares the calls of one command, whose permission a development token would need. */
export function connectTo(server: RemoteServer, permission: string): SessionClient {
  const token = server.token ?? developmentTokens(server.dataDir, permission);
  return createSessionClient({ baseUrl: server.url.href, token });
}

/** Makes tokens as `sessiond token` does, a new one every few minutes. */
function developmentTokens(dataDir: string, permission: string): () => Promise<string> {
  const subject = "development";
  let token = Promise.resolve("");
  let renewAtMs = Number.NEGATIVE_INFINITY;
  return () => {
    if (performance.now() >= renewAtMs) {
      renewAtMs = performance.now() + TOKEN_REST_MS;
      token = mintDevelopmentToken({
        dataDir,
        subject,
        permissions: [permission],
        ttlMs: TOKEN_TTL_MS,
      });
    }
    return token;
  };
}

/** Says why a call gave no answer. Answers the exit code: 2 where asking again is of no use, or 69. */
export function reportFailure(
  { reason, message }: SessiondError,
  { token, dataDir }: Pick<RemoteServer, "token" | "dataDir">,
  stderr: Pick<ReportOutput, "write">,
): number {
  stderr.write(`sessiond: ${message} (${reason})\n`);
  if (reason === "UNAUTHENTICATED" && token === undefined) {
    stderr.write(
      `sessiond: the token was made with the development key in ${dataDir}; where that is not ` +
        "the server's data directory, pass --data-dir or --token\n",
    );
  }
  return reason === "INVALID_ARGUMENT" ? EXIT_USAGE : EXIT_UNAVAILABLE;
}
