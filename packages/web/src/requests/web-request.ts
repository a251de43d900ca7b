/** The part of the Fetch API's `Request` that this package reads. */
export interface WebRequest {
  readonly method: string;
  /** Absolute, as in the Fetch API. */
  readonly url: string;
  readonly headers: Pick<Headers, "get">;
}

/** The host and port that the client asked for, or undefined if it named none. */
export function hostOf({ url, headers }: WebRequest): string | undefined {
  return headers.get("host") ?? URL.parse(url)?.host;
}

/** The path and query of the request. */
export function pathOf({ url }: WebRequest): string {
  const { pathname = "/", search = "" } = URL.parse(url) ?? {};
  return pathname + search;
}

/** RFC 9110 calls these methods safe: they only read. */
export function isSafe({ method }: WebRequest): boolean {
  return method === "GET" || method === "HEAD" || method === "OPTIONS";
}

/** Whether the client shows a page to a person. Programs and scripts do not ask for HTML. */
export function wantsPage({ headers }: WebRequest): boolean {
  return headers.get("accept")?.includes("text/html") ?? false;
}

/**
 * Whether a browser sent this request in the background: a script, an image, a prefetched page.
 * https://www.w3.org/TR/fetch-metadata/
 */
export function isInBackground({ headers }: WebRequest): boolean {
  const destination = headers.get("sec-fetch-dest");
  if (destination === null) return false;
  return destination !== "document" || headers.get("sec-purpose") !== null;
}

/**
 * Whether the browser and this process are on one machine and talk without TLS, as in development.
 * A request that a proxy forwarded is not local, whatever host it names.
 */
export function isPlainLocalhost(request: WebRequest): boolean {
  return isPlain(request) && !isForwarded(request) && hasLocalHost(request);
}

/**
 * Whether the browser talks without TLS to another host than its own machine, so that it takes no
 * Secure cookie. A proxy that says nothing about TLS is thought to have it.
 */
export function isPlainElsewhere(request: WebRequest): boolean {
  if (!isPlain(request) || hasLocalHost(request)) return false;
  const scheme = request.headers.get("x-forwarded-proto");
  return scheme === null ? !isForwarded(request) : scheme.trim().toLowerCase() === "http";
}

function isPlain({ url }: WebRequest): boolean {
  return url.startsWith("http:");
}

function isForwarded({ headers }: WebRequest): boolean {
  return FORWARDING_FIELDS.some((name) => headers.get(name) !== null);
}

function hasLocalHost(request: WebRequest): boolean {
  const host = hostOf(request);
  const url = host === undefined ? null : URL.parse(`http://${host}`);
  return url !== null && LOCAL_HOST.test(url.hostname);
}

const LOCAL_HOST = /^(?:(?:.+\.)?localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;
const FORWARDING_FIELDS = ["forwarded", "x-forwarded-for", "x-forwarded-proto", "via"];
