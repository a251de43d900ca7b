import { createSessionClient, type SessionClient, type SessiondError } from "@sessiond/client";
import { mintDevelopmentToken } from "../../auth/development-keys.js";
import type { TextOutput } from "../command/command.js";
import { EXIT_UNAVAILABLE, EXIT_USAGE } from "../command/exit-codes.js";
import type { RemoteServer } from "./remote-server.js";

/** How long a development token is valid, and after how long it is replaced. */
const TOKEN_TTL_MS = 10 * 60_000;
const TOKEN_RENEWAL_MS = 5 * 60_000;

/** Prepares calls to a server. A development token gets these permissions only. */
export function connectTo(server: RemoteServer, permissions: readonly string[]): SessionClient {
  const token = server.token ?? developmentTokens(server.dataDir, permissions);
  return createSessionClient({ baseUrl: server.url.href, token, tls: server.tls });
}

/** Makes the same tokens as `sessiond token`, a new one every five minutes. */
function developmentTokens(dataDir: string, permissions: readonly string[]): () => Promise<string> {
  const subject = "development";
  let token = Promise.resolve("");
  let renewAtMs = Number.NEGATIVE_INFINITY;
  return () => {
    if (performance.now() >= renewAtMs) {
      renewAtMs = performance.now() + TOKEN_RENEWAL_MS;
      token = mintDevelopmentToken({
        dataDir,
        subject,
        permissions,
        ttlMs: TOKEN_TTL_MS,
      });
    }
    return token;
  };
}

/** Writes why a call failed. Returns the exit code: 2 if the request itself is at fault, else 69. */
export function reportFailure(
  { reason, message }: SessiondError,
  { token, dataDir }: Pick<RemoteServer, "token" | "dataDir">,
  stderr: TextOutput,
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
