import { expect, test } from "vitest";
import { createSessionClient } from "./client.js";
import { SessiondError } from "./error.js";

/** What an error says about these options. */
function faultOf(options: object): string {
  try {
    createSessionClient({ baseUrl: "https://localhost", token: "t", ...options }).close();
  } catch (error) {
    if (error instanceof SessiondError) return error.message;
    throw error;
  }
  return "";
}

test.each([
  [{ tls: {} }, ""],
  [{ tls: { serverName: "sessiond.internal" } }, ""],
  [
    { tls: {}, baseUrl: "http://h" },
    "tls: expected a baseUrl with `https:`; `http:` is without TLS",
  ],
  [{ tls: true }, "tls: expected an object such as { ca }"],
  [{ tls: { servername: "h" } }, "tls.servername: unknown; did you mean serverName?"],
  [{ tls: { serverName: "" } }, "tls.serverName: expected a host name"],
  [{ tls: { ca: "/etc/ca.pem" } }, "tls.ca: expected PEM, not the path of a file"],
  [{ tls: { cert: "-----BEGIN x" } }, "tls.key: expected with `tls.cert`"],
  [{ tls: { key: "-----BEGIN x" } }, "tls.cert: expected with `tls.key`"],
  [
    { tls: { cert: "-----BEGIN x", key: "-----BEGIN x" } },
    /^tls: expected PEM that OpenSSL can use: /,
  ],
])("%j is refused when the client is made: %s", (options, fault) => {
  const expected = typeof fault === "string" ? fault : expect.stringMatching(fault);
  expect(faultOf(options)).toEqual(expected);
});
