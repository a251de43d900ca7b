/** What a failure shows about the address, and what the caller can try. */
interface Hint {
  readonly seen: string;
  readonly advice: string;

  /** Matches the Node.js code and the message of an error or of one of its causes. */
  readonly pattern: RegExp;

  /** Set if the port and the protocol are right. */
  readonly isCertificate?: true;

  /** Only before the first answer: later, the same failure is a connection that broke. */
  readonly beforeFirstAnswer?: true;
}

const HINTS: readonly Hint[] = [
  {
    seen: "the answer is not HTTP/2",
    advice: "Protocol `grpc` needs HTTP/2; for a proxy without it there is protocol `connect`.",
    pattern: /^Protocol error/,
  },
  {
    seen: "the answer is not HTTP/1.1",
    advice: "Protocol `connect` needs sessiond's HTTP port; its gRPC port needs protocol `grpc`.",
    pattern: /^HPE_INVALID/,
  },
  {
    seen: "the answer is not TLS",
    advice: "A port without TLS needs an address with `http:`.",
    pattern: /wrong version number|packet length too long/,
  },
  {
    seen: "the server's TLS does not offer HTTP/2",
    advice: "Protocol `grpc` needs HTTP/2; for a proxy without it there is protocol `connect`.",
    pattern: /no application protocol/,
  },
  {
    seen: "the server's certificate is of no authority that this client trusts",
    advice: "If the authority is your own, its certificate belongs into `tls.ca`.",
    pattern: /DEPTH_ZERO_SELF_SIGNED|SELF_SIGNED|UNABLE_TO_(?:GET_ISSUER|VERIFY_LEAF)/,
    isCertificate: true,
  },
  {
    seen: "the server asks for a certificate of this client",
    advice: "It belongs with its key into `tls.cert` and `tls.key`.",
    pattern: /certificate required|ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE/,
    isCertificate: true,
  },
  {
    seen: "the answer is not sessiond's",
    advice: "A web server or a proxy answered in its place.",
    // Redirects, and refusals of the request as such. Others, such as 502, may pass.
    pattern: /^unsupported content type|^HTTP (3\d\d|40[0-5]|415|421|426)$/,
  },
  {
    seen: "nothing listens there",
    advice: "Unless configured, sessiond has gRPC on port 50051 and HTTP on port 8080.",
    pattern: /ECONNREFUSED/,
    beforeFirstAnswer: true,
  },
  {
    seen: "the server closed the connection before any answer",
    advice:
      "A port with TLS needs an address with `https:`; sessiond's gRPC port needs protocol `grpc`.",
    pattern: /^ECONNRESET|^EPIPE|^read ECONNRESET|^Failed to connect|^Connection dropped/,
    beforeFirstAnswer: true,
  },
];

/**
 * What to try if a failure looks like the wrong port or protocol, or undefined.
 *
 * @param chain the error of a call and its causes
 * @param isFirstContact whether the server has answered no call yet
 */
export function connectionHint(
  chain: readonly Error[],
  isFirstContact: boolean,
): string | undefined {
  const texts = chain.map(textOf);
  const hint = HINTS.find(
    ({ pattern, beforeFirstAnswer = false }) =>
      (isFirstContact || !beforeFirstAnswer) && texts.some((text) => pattern.test(text)),
  );
  if (hint === undefined) return undefined;
  const question = hint.isCertificate ? "" : " Is this the right port and protocol?";
  return `${hint.seen}.${question} ${hint.advice}`;
}

/** A ConnectError has a number as its code, and a message that repeats it. */
function textOf(error: Error): string {
  if ("rawMessage" in error) return String(error.rawMessage);
  return "code" in error ? `${error.code} ${error.message}` : error.message;
}
