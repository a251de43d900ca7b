import { BlockList, isIPv4, isIPv6 } from "node:net";

/** Where a server listens or is reached. */
export interface Address {
  /** A name or an IP address; IPv6 without brackets. */
  readonly host: string;
  /** 0 to 65535; 0 lets the system choose when listening. */
  readonly port: number;
}

const PATTERN = /^(?:\[(?<ipv6>[^\]]*)\]|(?<name>[^:[\]]*)):(?<port>\d{1,5})$/;
const HOST_NAME = /^(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_][a-z0-9_-]{0,62})*\.?$/i;
const LOOPBACK = new BlockList();
LOOPBACK.addSubnet("127.0.0.0", 8, "ipv4");
LOOPBACK.addAddress("::1", "ipv6");

/**
 * Reads `host:port`, an IPv6 address in brackets: `[::1]:50051`. Throws an Error
 * that says what was expected and never repeats the text, which may come from a URL
 * with a password.
 */
export function parseAddress(text: string): Address {
  const groups = PATTERN.exec(text)?.groups;
  const host = groups?.["ipv6"] ?? groups?.["name"] ?? "";
  const port = Number(groups?.["port"]);
  const hostIsValid = groups?.["ipv6"] === undefined ? isHost(host) : isIPv6(host);
  if (!hostIsValid || !(port <= 65_535)) {
    throw new Error("expected host:port such as 127.0.0.1:8080 or [::1]:8080");
  }
  return { host, port };
}

/** Writes an address as `parseAddress` reads it. */
export function formatAddress({ host, port }: Address): string {
  return isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
}

/**
 * Whether only this machine can reach the host: 127.0.0.0/8, ::1 or `localhost`.
 * Other names are not looked up and count as reachable by others.
 */
export function isLoopback(host: string): boolean {
  if (isIPv4(host)) return LOOPBACK.check(host, "ipv4");
  if (isIPv6(host)) return LOOPBACK.check(host, "ipv6");
  return host.toLowerCase() === "localhost";
}

/** A name or an IPv4 address. Another host that ends in digits is a mistyped IPv4 address. */
function isHost(host: string): boolean {
  return isIPv4(host) || (HOST_NAME.test(host) && !/(^|\.)\d+\.?$/.test(host));
}
