/** The settings of TLS on the ports, for the table of all settings. */
export const PORT_TLS_SETTINGS = {
  tlsCert: {
    group: "Listening",
    env: "SESSIOND_TLS_CERT",
    flag: "tls-cert",
    placeholder: "FILE",
    help: "the PEM file of the ports' certificate and of those that lead to its authority",
    details:
      "With it every port speaks TLS 1.2 or newer, and no plaintext. When the files change, new " +
      "connections get the new certificate; [tls.md](tls.md) says how to renew it.",
    parse: parsePemPath,
  },
  tlsKey: {
    group: "Listening",
    env: "SESSIOND_TLS_KEY",
    flag: "tls-key",
    placeholder: "FILE",
    help: "the PEM file of the certificate's private key, not encrypted",
    secret: true,
    parse: parsePemPath,
  },
  tlsClientCa: {
    group: "Listening",
    env: "SESSIOND_TLS_CLIENT_CA",
    flag: "tls-client-ca",
    placeholder: "FILE",
    help:
      "a PEM file of authorities: the gRPC and the HTTP port then serve only clients with a " +
      "certificate of one of them",
    details:
      "The log names the certificate of each call in `client_cert`. Callers still need an access " +
      "token. `/healthz`, `/readyz` and `/metrics` need the certificate as well, except at " +
      "[SESSIOND_METRICS_ADDRESS](#sessiond_metrics_address).",
    parse: parsePemPath,
  },
  allowPlaintext: {
    group: "Listening",
    env: "SESSIOND_ALLOW_PLAINTEXT",
    flag: "allow-plaintext",
    default: "false",
    help: "whether ports that others can reach may be without TLS: something in front encrypts",
    details:
      "Tokens and session data are in every call, and whoever reads a token can use it. So a server " +
      "without [SESSIOND_TLS_CERT](#sessiond_tls_cert) listens on loopback addresses only, unless a " +
      "proxy or a service mesh encrypts the way to it.",
    parse: parseSwitch,
  },
} as const;

/** The settings of TLS to Redis. */
export const REDIS_TLS_SETTINGS = {
  redisCa: {
    group: "Store",
    env: "SESSIOND_REDIS_CA",
    flag: "redis-ca",
    placeholder: "FILE",
    help: "the PEM file of the authorities of a `rediss` store (default: those of Node)",
    details:
      "Redis must prove that it is the host in [SESSIOND_STORE](#sessiond_store); " +
      "[tls.md](tls.md#redis) says which names its nodes and sentinels need.",
    parse: parsePemPath,
  },
  redisCert: {
    group: "Store",
    env: "SESSIOND_REDIS_CERT",
    flag: "redis-cert",
    placeholder: "FILE",
    help: "the PEM file of the certificate that a `rediss` store asks for",
    parse: parsePemPath,
  },
  redisKey: {
    group: "Store",
    env: "SESSIOND_REDIS_KEY",
    flag: "redis-key",
    placeholder: "FILE",
    help: "the PEM file of that certificate's private key, not encrypted",
    secret: true,
    parse: parsePemPath,
  },
} as const;

function parsePemPath(text: string): string {
  if (text.includes("-----BEGIN"))
    throw new Error("expected the path of a PEM file, not its contents");
  if (text === "" || text.includes("\0")) throw new Error("expected a path");
  return text;
}

function parseSwitch(text: string): boolean {
  if (text !== "true" && text !== "false") throw new Error("expected true or false");
  return text === "true";
}
