import {
  type AccessToken,
  clientCredentials,
  createSessionClient,
  type SessionClient,
  SessiondError,
  tokenFile,
} from "@sessiond/client";
import { mintDevelopmentToken } from "../../auth/development-keys.js";
import { loginToken } from "../access/login-token.js";
import { withCauses } from "../command/causes.js";
import type { TextOutput } from "../command/command.js";
import { EXIT_UNAVAILABLE, EXIT_USAGE } from "../command/exit-codes.js";
import type { RemoteServer } from "./remote-server.js";

/** How long a development token is valid, and after how long it is replaced. */
const TOKEN_TTL_MS = 10 * 60_000;
const TOKEN_RENEWAL_MS = 5 * 60_000;

/** Prepares calls to a server. A development token gets these permissions only. */
export function connectTo(server: RemoteServer, permissions: readonly string[]): SessionClient {
  const token = accessToken(server, permissions);
  return createSessionClient({ baseUrl: server.url.href, token, tls: server.tls });
}

function accessToken(
  { token, dataDir }: RemoteServer,
  permissions: readonly string[],
): AccessToken {
  if (token === undefined) return developmentTokens(dataDir, permissions);
  if (typeof token === "string") return token;
  if ("file" in token) return tokenFile(token.file);
  if ("login" in token) return loginToken(token.login);
  return clientCredentials(token.clientCredentials);
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

/**
 * Calls a server and closes the connection. Returns the exit code of `run`, or of `reportFailure` if
 * a call fails.
 */
export async function callServer(
  server: RemoteServer,
  permissions: readonly string[],
  stderr: TextOutput,
  run: (client: SessionClient) => Promise<number>,
): Promise<number> {
  using client = connectTo(server, permissions);
  try {
    return await run(client);
  } catch (error) {
    if (error instanceof SessiondError) return reportFailure(error, server, stderr);
    throw error;
  }
}

/** Writes why a call failed. Returns the exit code: 2 if the request itself is at fault, else 69. */
export function reportFailure(
  error: SessiondError,
  { url, token, dataDir }: Pick<RemoteServer, "url" | "token" | "dataDir">,
  stderr: TextOutput,
): number {
  const { reason } = error;
  stderr.write(`sessiond: ${messageOf(error)} (${reason})\n`);
  if (reason === "UNAUTHENTICATED" && token === undefined) {
    stderr.write(
      `sessiond: the token was made with the development key in ${dataDir}; where that is not ` +
        "the server's data directory, pass --data-dir or --token\n",
    );
  }
  if (reason === "UNAUTHENTICATED" && typeof token === "object" && "login" in token) {
    stderr.write(`sessiond: log in again: sessiond login --server ${url.origin}\n`);
  }
  return reason === "INVALID_ARGUMENT" ? EXIT_USAGE : EXIT_UNAVAILABLE;
}

/** Without the cause, nobody learns which issuer or file is at fault. */
function messageOf({ reason, message, cause }: SessiondError): string {
  const isHidden = reason === "TOKEN_UNAVAILABLE" && cause instanceof Error;
  return isHidden ? `there is no access token: ${withCauses(cause)}` : message;
}
