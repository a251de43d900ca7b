import type { RedisAccess, RedisLocation } from "@sessiond/core/redis";
import { type Address, formatAddress, parseAddress } from "../network/address.js";

/** Where sessions are kept, as `SESSIOND_STORE` says. The path is a file, or `:memory:`. */
export type StoreLocation = { readonly kind: "sqlite"; readonly path: string } | RedisLocation;

const REDIS_URL = /^(?<scheme>rediss?)(?:\+(?<kind>cluster|sentinel))?:\/\/(?<rest>.*)$/s;
const REDIS_PORT = 6379;
const SENTINEL_PORT = 26_379;

/**
 * Reads `sqlite:PATH`, `sqlite::memory:`, `redis://…`, `redis+cluster://…` or
 * `redis+sentinel://…`; `rediss` in place of `redis` asks for TLS. User name and
 * password are percent-decoded. Throws an Error that says what was expected and
 * repeats nothing of the text, which may contain a password.
 */
export function parseStoreLocation(text: string): StoreLocation {
  if (text.startsWith("sqlite:")) return parseSqlite(text.slice("sqlite:".length));
  const groups = REDIS_URL.exec(text)?.groups;
  if (groups === undefined) {
    throw new Error("expected sqlite:PATH, redis://…, redis+cluster://… or redis+sentinel://…");
  }
  // Neither hosts nor paths contain an @, so the last @ ends the password.
  const rest = groups["rest"] ?? "";
  const hostsStart = rest.lastIndexOf("@") + 1;
  const access: RedisAccess = {
    tls: groups["scheme"] === "rediss",
    ...parseLogin(rest.slice(0, Math.max(0, hostsStart - 1))),
  };
  const [hosts = "", ...path] = rest.slice(hostsStart).split("/");
  if (groups["kind"] === "cluster") return parseCluster(hosts, path, access);
  if (groups["kind"] === "sentinel") return parseSentinel(hosts, path, access);
  return parseRedis(hosts, path, access);
}

/** The location for people and logs, without user name and password. */
export function describeStore(location: StoreLocation): string {
  if (location.kind === "sqlite") return `sqlite:${location.path}`;
  const scheme = location.tls ? "rediss" : "redis";
  switch (location.kind) {
    case "redis":
      return `${scheme}://${formatAddress(location.address)}/${location.db}`;
    case "redis-cluster":
      return `${scheme}+cluster://${location.nodes.map(formatAddress).join(",")}`;
    case "redis-sentinel": {
      const sentinels = location.sentinels.map(formatAddress).join(",");
      return `${scheme}+sentinel://${sentinels}/${location.masterName}/${location.db}`;
    }
  }
}

function parseSqlite(path: string): StoreLocation {
  // Some tools take sqlite://path for a relative path, others for an absolute path.
  if (path.startsWith("//")) throw new Error("expected sqlite:PATH, without // before the path");
  if (path === "" || (path.startsWith(":") && path !== ":memory:") || path.includes("\0")) {
    throw new Error("expected sqlite:PATH or sqlite::memory:");
  }
  return { kind: "sqlite", path };
}

function parseRedis(hosts: string, path: readonly string[], access: RedisAccess): StoreLocation {
  const [address, ...more] = parseHosts(hosts, REDIS_PORT);
  if (address === undefined || more.length > 0 || path.length > 1) {
    throw new Error("expected redis://[user:password@]host[:port][/db]");
  }
  return { kind: "redis", address, db: parseDb(path[0]), ...access };
}

function parseCluster(hosts: string, path: readonly string[], access: RedisAccess): StoreLocation {
  if (path.join("") !== "") {
    throw new Error("expected redis+cluster://host:port,… and nothing after: a cluster has one db");
  }
  return { kind: "redis-cluster", nodes: parseHosts(hosts, REDIS_PORT), ...access };
}

function parseSentinel(hosts: string, path: readonly string[], access: RedisAccess): StoreLocation {
  const [masterName, db, ...more] = path;
  if (masterName === undefined || !/^[\w.-]+$/.test(masterName) || more.length > 0) {
    throw new Error("expected redis+sentinel://host:port,…/master[/db]");
  }
  const sentinels = parseHosts(hosts, SENTINEL_PORT);
  return { kind: "redis-sentinel", sentinels, masterName, db: parseDb(db), ...access };
}

function parseHosts(hosts: string, defaultPort: number): readonly Address[] {
  return hosts.split(",").map((host, i, all) => {
    if (host === "") {
      const place = all.length === 1 ? "" : ` number ${i + 1}, of those separated by commas,`;
      throw new Error(`the host${place} is missing; expected host:port`);
    }
    try {
      const hasPort = /:\d*$/.test(host.replace(/^\[.*\]/, ""));
      return parseAddress(hasPort ? host : `${host}:${defaultPort}`);
    } catch {
      throw new Error(`expected host:port, the hosts separated by commas; host ${i + 1} is not`);
    }
  });
}

function parseDb(text: string | undefined): number {
  if (text === undefined || text === "") return 0;
  if (!/^\d{1,5}$/.test(text)) throw new Error("expected the number of a database after the host");
  return Number(text);
}

function parseLogin(login: string): { username?: string; password?: string } {
  const [username = "", ...rest] = login.split(":");
  const password = rest.join(":");
  try {
    return {
      ...(username !== "" && { username: decodeURIComponent(username) }),
      ...(password !== "" && { password: decodeURIComponent(password) }),
    };
  } catch {
    throw new Error("expected user name and password percent-encoded (% itself is %25)");
  }
}
