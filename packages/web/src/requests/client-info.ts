import { isIP } from "node:net";
import type { ClientInfo } from "@sessiond/client";
import Bowser from "bowser";
import proxyAddr from "proxy-addr";
import type { WebRequest } from "./web-request.js";

/** The contract's limit. sessiond cuts what is longer; we need not send it. */
const MAX_USER_AGENT_BYTES = 1024;

/** Decides by an address whether it is a proxy's that we trust. */
export type TrustedProxies = (address: string, hop: number) => boolean;

/**
 * The proxies that may say who their client is: addresses, networks, and the names `loopback`,
 * `linklocal` and `uniquelocal`. Throws a TypeError that names the option for anything else.
 */
export function trustedProxies(names: readonly string[]): TrustedProxies {
  try {
    return proxyAddr.compile([...names]);
  } catch (cause) {
    const message = "trustedProxies: expected addresses and networks such as 10.0.0.0/8";
    throw new TypeError(message, { cause });
  }
}

/**
 * The address of the client, read from `X-Forwarded-For` as far as trusted proxies have written it.
 * Undefined if the address of the connection is not known.
 */
export function clientAddress(
  request: WebRequest,
  peerAddress: string | undefined,
  trusted: TrustedProxies,
): string | undefined {
  if (peerAddress === undefined) return undefined;
  // All that proxy-addr reads of a request of Node.js.
  const forwarded = request.headers.get("x-forwarded-for") ?? undefined;
  const connection = {
    headers: { "x-forwarded-for": forwarded },
    socket: { remoteAddress: peerAddress },
  } as unknown as Parameters<typeof proxyAddr>[0];
  return plainAddress(proxyAddr(connection, trusted));
}

/** Whether a proxy, or a client that poses as one, says who its client is, and is not trusted. */
export function isProxyUnknown(
  request: WebRequest,
  peerAddress: string | undefined,
  trusted: TrustedProxies,
): boolean {
  if (peerAddress === undefined || request.headers.get("x-forwarded-for") === null) return false;
  return !trusted(peerAddress, 0);
}

/** Without a port, which some proxies write, and as IPv4 if an IPv6 address wraps one. */
function plainAddress(text: string): string {
  const [, address = text] = /^\[?([\d.]+|[\da-f:.]+(?=\]))\]?:\d+$/i.exec(text) ?? [];
  const [, wrapped] = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address) ?? [];
  return wrapped ?? address;
}

/**
 * Clients with the same key count as one. All addresses of an IPv6 network of 64 bits are one
 * client's, who could otherwise try from a new address each time.
 */
export function addressKey(address: string): string {
  if (isIP(address) !== 6) return address;
  const [head = "", tail] = address.split("::");
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros =
    tail === undefined ? [] : Array(Math.max(0, 8 - left.length - right.length)).fill("0");
  const network = [...left, ...zeros, ...right].slice(0, 4);
  return `${network.map((group) => Number.parseInt(group, 16).toString(16)).join(":")}::/64`;
}

/** What a session keeps of the client that logged in, within the contract's limits. */
export function clientInfo(request: WebRequest, address: string | undefined): ClientInfo {
  const userAgent = cutToBytes(request.headers.get("user-agent") ?? "", MAX_USER_AGENT_BYTES);
  return { ip: address ?? "", userAgent, device: deviceName(userAgent) };
}

/** A name that the user recognizes, such as `Firefox on Linux`; empty if nothing is known. */
function deviceName(userAgent: string): string {
  if (userAgent === "") return "";
  const { browser, os } = Bowser.parse(userAgent);
  return [browser.name, os.name].filter(Boolean).join(" on ");
}

function cutToBytes(text: string, maxBytes: number): string {
  const bytes = Buffer.from(text);
  if (bytes.length <= maxBytes) return text;
  // A character that is cut in the middle becomes U+FFFD, which we leave out.
  return bytes
    .subarray(0, maxBytes)
    .toString()
    .replace(/\uFFFD+$/, "");
}
