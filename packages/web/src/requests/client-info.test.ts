import { expect, test } from "vitest";
import { addressKey, clientAddress, clientInfo, trustedProxies } from "./client-info.js";

function addressOf(peer: string, forwarded: string, trusted: string[]): string | undefined {
  const headers = new Headers({ "x-forwarded-for": forwarded });
  const request = { method: "GET", url: "http://localhost/", headers };
  return clientAddress(request, peer, trustedProxies(trusted));
}

test("without trusted proxies a client cannot choose its address", () => {
  expect(addressOf("203.0.113.7", "198.51.100.1", [])).toBe("203.0.113.7");
});

test.each([
  ["what the trusted proxy wrote", "6.6.6.6, 203.0.113.7", "203.0.113.7"],
  ["through two trusted proxies", "6.6.6.6, 203.0.113.7, 10.0.0.9", "203.0.113.7"],
  ["with the port that some proxies write", "203.0.113.7:4711", "203.0.113.7"],
  ["of IPv6 with a port", "[2001:db8::7]:4711", "2001:db8::7"],
  ["of IPv4 in IPv6", "::ffff:203.0.113.7", "203.0.113.7"],
])("the client's address is %s", (_, forwarded, expected) => {
  expect(addressOf("10.0.0.1", forwarded, ["10.0.0.0/8"])).toBe(expected);
});

test.each([
  ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
  ["2001:0DB8:1:2::9", "2001:db8:1:2::/64"],
  ["2001:db8::7", "2001:db8:0:0::/64"],
  ["::1", "0:0:0:0::/64"],
  ["203.0.113.7", "203.0.113.7"],
])("attempts from %s count for %s", (address, key) => {
  expect(addressKey(address)).toBe(key);
});

test("a user agent is cut to the contract's 1024 bytes, between characters", () => {
  const headers = new Headers({ "user-agent": `a${"\u00e9".repeat(2000)}` });
  const { userAgent, device } = clientInfo({ method: "GET", url: "", headers }, undefined);
  expect([userAgent.length, Buffer.byteLength(userAgent), device]).toEqual([512, 1023, ""]);
});
