import { isIP, SocketAddress } from "node:net";

const IPV4_MAPPED = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/;

/**
 * The one form of an IP address, so that addresses can be compared as texts: IPv6 as RFC 5952 writes
 * it and without a zone, an IPv4-mapped IPv6 address as IPv4. Undefined if the text is no address,
 * as with a port, with brackets, or in the forms of IPv4 that only some programs know: `127.1`,
 * `0x7f.0.0.1`, `010.0.0.1`.
 */
export function canonicalIp(text: string): string | undefined {
  switch (isIP(text)) {
    case 4:
      return text;
    case 6: {
      const [address = ""] = text.split("%", 1);
      const canonical = new SocketAddress({ address, family: "ipv6" }).address;
      return IPV4_MAPPED.exec(canonical)?.[1] ?? canonical;
    }
    default:
      return undefined;
  }
}
