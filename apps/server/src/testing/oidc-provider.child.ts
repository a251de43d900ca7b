// An OpenID provider in a process of its own. Its keys and faults come by messages of its parent.
import { createServer, type RequestListener } from "node:http";
import Provider from "oidc-provider";
import { oidcFeatures } from "./oidc-features.js";
import type { ProviderState } from "./oidc-process.js";

const [port, clientId, clientSecret] = process.argv.slice(2);
const url = `http://127.0.0.1:${port}`;
const WEEK_S = 7 * 86_400;
const SCOPE = "sessions:create sessions:read";
const served = { loads: 0, bytes: 0 };
let provider: RequestListener;
let state: ProviderState;

/** What the provider answers in place of its keys. */
const FAULTS: Record<NonNullable<ProviderState["fault"]>, RequestListener> = {
  empty: (_, response) => response.end('{"keys":[]}'),
  garbage: (_, response) => response.end("<html>502 Bad Gateway</html>"),
  damaged: (_, response) => response.end('{"keys":[{"kty":"RSA","kid":"k1"}]}'),
  failing: (_, response) => response.writeHead(503).end(),
  hanging: () => {},
  slow: (request, response) => setTimeout(() => provider(request, response), 500),
  endless: (_, response) => {
    const chunk = Buffer.alloc(64 * 1024, " ");
    const write = () => {
      while (!response.destroyed) {
        served.bytes += chunk.length;
        if (!response.write(chunk)) break;
      }
    };
    response.on("drain", write);
    write();
  },
};

const server = createServer((request, response) => {
  if (request.url === "/jwks") {
    served.loads++;
    if (state.fault !== undefined) return FAULTS[state.fault](request, response);
  }
  provider(request, response);
});

process.on("message", (next: ProviderState) => {
  state = next;
  provider = new Provider(url, configuration()).callback();
  process.send?.(served);
});
server.listen(Number(port), "127.0.0.1", () => process.send?.(served));

function configuration(): Readonly<Record<string, unknown>> {
  const client = { client_id: clientId, client_secret: clientSecret };
  const kind = { grant_types: ["client_credentials"], redirect_uris: [], response_types: [] };
  return {
    jwks: { keys: state.keys },
    scopes: SCOPE.split(" "),
    clients: [{ ...client, ...kind }],
    ttl: { ClientCredentials: WEEK_S },
    features: oidcFeatures({ scope: SCOPE, lifetimeS: WEEK_S }),
  };
}
