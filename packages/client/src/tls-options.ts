import { createSecureContext } from "node:tls";
import type { FieldViolation } from "./error.js";
import { type NamesOf, unknownNames, violationsOf } from "./known-names.js";

/** TLS to a server whose `baseUrl` begins with `https` or `dns`. All of it in PEM. */
export interface TlsOptions {
  /** The authorities that the server's certificate may come from. Default: those of Node.js. */
  ca?: string | Buffer | undefined;

  /**
   * The certificate of this client, and those that lead to its authority. Default: none, for a
   * server that asks for none.
   */
  cert?: string | Buffer | undefined;

  /** The private key of `cert`, not encrypted. */
  key?: string | Buffer | undefined;

  /** The name that the server's certificate must have. Default: the host in `baseUrl`. */
  serverName?: string | undefined;
}

const TLS_OPTIONS = {
  ca: true,
  cert: true,
  key: true,
  serverName: true,
} satisfies NamesOf<TlsOptions>;

/** Every fault of `tls` for a server at this address. No fault shows the key. */
export function tlsFaults(tls: unknown, baseUrl: unknown): readonly FieldViolation[] {
  if (tls === undefined) return [];
  if (typeof tls !== "object" || tls === null) {
    return [{ field: "tls", description: "expected an object such as { ca }" }];
  }
  const unknown = unknownNames<TlsOptions>(tls, TLS_OPTIONS, {
    argument: "tls",
    prefix: "tls.",
  });
  if (unknown.length > 0) return unknown;
  const { ca, cert, key, serverName } = tls as TlsOptions;
  const faults: Record<string, string | undefined> = {
    tls: isHttp(baseUrl) ? "expected a baseUrl with `https:`; `http:` is without TLS" : undefined,
    "tls.cert": key !== undefined && cert === undefined ? "expected with `tls.key`" : undefined,
    "tls.key": cert !== undefined && key === undefined ? "expected with `tls.cert`" : undefined,
    "tls.serverName":
      serverName === undefined || (typeof serverName === "string" && serverName !== "")
        ? undefined
        : "expected a host name",
  };
  const wrong = violationsOf(faults);
  return wrong.length > 0 ? wrong : pemFaults({ ca, cert, key });
}

/** Node.js would ignore an authority that is no PEM, and fail at the first call because of a key. */
function pemFaults({ ca, cert, key }: TlsOptions): readonly FieldViolation[] {
  for (const [name, pem] of Object.entries({ ca, cert, key })) {
    if (pem === undefined || String(pem).includes("-----BEGIN ")) continue;
    return [{ field: `tls.${name}`, description: "expected PEM, not the path of a file" }];
  }
  try {
    createSecureContext({ ca, cert, key });
    return [];
  } catch (error) {
    const why = error instanceof Error ? error.message : error;
    return [{ field: "tls", description: `expected PEM that OpenSSL can use: ${why}` }];
  }
}

function isHttp(baseUrl: unknown): boolean {
  const [address] = Array.isArray(baseUrl) ? baseUrl : [baseUrl];
  return typeof address === "string" && URL.parse(address)?.protocol === "http:";
}
