import { mintDevelopmentToken } from "../auth/development-keys.js";
import type { Config } from "../config/config.js";
import { describeStore } from "../config/store-location.js";
import type { RunningServer } from "../daemon/start-server.js";
import { formatAddress } from "../network/address.js";
import { KNOWN_PERMISSIONS } from "../services/permissions.js";

const TOKEN_TTL_MS = 24 * 3_600_000;
const SERVICE = "sessiond.v1.SessionService";
const BUF = "npx --yes @bufbuild/buf@1.75.0 curl --protocol grpc";
/** How the tools are told what kind of connection it is. Nobody stands between them and loopback. */
const PLAINTEXT = {
  scheme: "http",
  curl: "curl",
  buf: `${BUF} --http2-prior-knowledge`,
  grpcurl: "grpcurl -plaintext",
};
const TLS = {
  scheme: "https",
  curl: "curl --insecure",
  buf: `${BUF} --insecure`,
  grpcurl: "grpcurl -insecure",
};

/** The text that a development server prints at its start: its addresses, a token, and calls to try. */
export async function developmentWelcome(config: Config, server: RunningServer): Promise<string> {
  const grpc = formatAddress(server.grpcAddress);
  const http = formatAddress(server.httpAddress);
  const token = await mintDevelopmentToken({
    dataDir: config.dataDir,
    permissions: KNOWN_PERMISSIONS,
    subject: "development",
    ttlMs: TOKEN_TTL_MS,
  });
  const { scheme, curl, buf, grpcurl } = config.tls ? TLS : PLAINTEXT;
  const made = config.keyring === undefined ? "keyring and signing key" : "signing key";
  return `
sessiond is listening, for development: it made its own ${made}
  gRPC                    ${grpc}
  Connect, gRPC-Web, JSON ${scheme}://${http}
  sessions are kept in    ${describeStore(config.store)}
  what it made is in      ${config.dataDir}

An access token for the next 24 hours, with every permission. Paste this into
another terminal, then any of the pairs below:

export TOKEN=${token}
${config.console ? consoleLink(`${scheme}://${http}`, token) : ""}
# curl, with JSON: create a session, keep its token, verify it
${pair((method, body) => `${curl} -sS -H "authorization: Bearer $TOKEN" -H 'content-type: application/json' -d ${body} ${scheme}://${http}/${SERVICE}/${method}`)}

# buf curl, over gRPC; it learns the contract from the server by reflection
${pair((method, body) => `${buf} -H "authorization: Bearer $TOKEN" -d ${body} ${scheme}://${grpc}/${SERVICE}/${method}`)}

# grpcurl, the same
${pair((method, body) => `${grpcurl} -H "authorization: Bearer $TOKEN" -d ${body} ${grpc} ${SERVICE}/${method}`)}

`;
}

/** The fragment of a URL stays in the browser: no server and no log gets the token. */
function consoleLink(origin: string, token: string): string {
  return `\n# the operators' console: this link logs in\n${origin}/console#token=${token}\n`;
}

/** Two shell commands that create a session and verify it. `call` is the command for one RPC. */
function pair(call: (method: string, body: string) => string): string {
  const create = call("CreateSession", `'{"userId": "ann", "roles": ["admin"]}'`);
  const verify = call("VerifySession", `"{\\"token\\": \\"$SESSION\\"}"`);
  const takeToken = `sed -n 's/.*"token": *"\\([^"]*\\)".*/\\1/p'`;
  return `SESSION=$(${create} | ${takeToken})\n${verify}`;
}
