import { expect, test } from "vitest";
import { useTestServer } from "../../testing/test-server.js";

const MAX_COMPRESSED_BYTES = 80 * 1024;

const login = { clientId: "console", scope: "openid", parameters: {} };
const server = useTestServer({ config: { console: { isDevelopment: false, login } } });
const without = useTestServer();

const get = (path: string, init: RequestInit = {}) => fetch(server.httpUrl + path, init);

async function assetPaths(): Promise<readonly string[]> {
  const html = await (await get("/console")).text();
  return [...html.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, path = ""]) => path);
}

test("there is no console unless it is asked for", async () => {
  expect((await fetch(`${without.httpUrl}/console`)).status).toBe(404);
});

test("the page takes at most 80 KiB, and what has a hash in its name is kept for good", async () => {
  const paths = await assetPaths();
  expect(paths.length).toBeGreaterThanOrEqual(3);
  let bytes = 0;
  for (const path of ["/console", ...paths]) {
    const response = await get(path, { headers: { "accept-encoding": "gzip" } });
    expect(response.status).toBe(200);
    expect(response.headers.get("content-encoding")).toBe("gzip");
    bytes += Number(response.headers.get("content-length"));
    const caching = path === "/console" ? "no-cache" : "public, max-age=31536000, immutable";
    expect(response.headers.get("cache-control")).toBe(caching);
  }
  expect(bytes).toBeLessThan(MAX_COMPRESSED_BYTES);
});

test("a file that has not changed is not sent again, and comes unpacked to those who want it so", async () => {
  for (const path of ["/console", ...(await assetPaths())]) {
    const response = await get(path, { headers: { "accept-encoding": "gzip;q=0" } });
    expect(response.headers.get("content-encoding")).toBe(null);
    const body = await response.text();
    expect(body.length).toBeGreaterThan(100);
    const etag = response.headers.get("etag") ?? "";
    const again = await get(path, { headers: { "if-none-match": etag } });
    expect(again.status).toBe(304);
    const head = await get(path, { method: "HEAD" });
    expect([head.status, await head.text()]).toEqual([200, ""]);
  }
});

test("the policy lets the page run and reach nothing but the server and the issuer", async () => {
  const { origin } = new URL(server.issuer.url);
  for (const path of ["/console", ...(await assetPaths()), "/console/nothing"]) {
    const { headers } = await get(path);
    expect(headers.get("content-security-policy")).toBe(
      "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
        `connect-src 'self' ${origin}; base-uri 'none'; form-action 'none'; ` +
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    );
    expect(headers.get("x-content-type-options")).toBe("nosniff");
  }
});

test("the page is told where to log in, and a caller only what its own token permits", async () => {
  expect(await (await get("/console/config.json")).json()).toEqual({
    isDevelopment: false,
    login: { issuer: server.issuer.url, ...login },
  });
  const stranger = await get("/console/caller.json");
  expect(stranger.status).toBe(401);
  expect(await stranger.json()).toMatchObject({ code: "unauthenticated" });
  const token = await server.issuer.sign({ claims: { sub: "olga", scope: "sessions:read" } });
  const known = await get("/console/caller.json", {
    headers: { authorization: `Bearer ${token}` },
  });
  expect(known.headers.get("cache-control")).toBe("no-store");
  expect(await known.json()).toEqual({
    subject: "olga",
    namespace: "",
    permissions: ["sessions:read"],
  });
});

test("what is not there, and what is no request to read, is refused with what was expected", async () => {
  expect((await get("/console/nothing")).status).toBe(404);
  const posted = await get("/console", { method: "POST", body: "x" });
  expect([posted.status, posted.headers.get("allow")]).toEqual([405, "GET, HEAD"]);
});
