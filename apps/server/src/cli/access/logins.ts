import { randomUUID } from "node:crypto";
import { closeSync, fstatSync, openSync, readFileSync } from "node:fs";
import { chmod, mkdir, open, rename, rm } from "node:fs/promises";
import { dirname, isAbsolute, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Environment } from "../../config/environment.js";
import { isLoopback } from "../../network/address.js";

/** What an issuer gave for one server. */
export interface Login {
  readonly issuer: string;
  readonly clientId: string;
  readonly accessToken: string;
  /** RFC 3339. Undefined if the issuer did not say. */
  readonly expireTime?: string;
  /** Undefined if the issuer gave none: then the login ends with its access token. */
  readonly refreshToken?: string;
}

/** Where the login for a server is kept: the file with all of them, and the server's origin in it. */
export interface LoginPlace {
  readonly path: string;
  readonly origin: string;
}

/** How long we wait for another process, which may ask the issuer meanwhile. */
const TURN_TIMEOUT_MS = 20_000;
const TURN_PAUSE_MS = 20;
/** SQLITE_BUSY. */
const BUSY = 5;

/**
 * The place for a server's login. Throws an Error that says what was expected if the token would go
 * over a network in plain text, or if there is no place.
 */
export function loginPlace(env: Environment, server: URL): LoginPlace {
  if (!isPrivate(server)) {
    throw new Error("expected an https:// URL; http:// is for loopback hosts only");
  }
  const path = loginsPath(env);
  if (path === undefined) throw new Error("no place for a login: HOME is not set");
  return { path, origin: server.origin };
}

/** The place of a server's login, if there is one. Throws as `readLogin`. */
export function keptLogin(env: Environment, server: URL): LoginPlace | undefined {
  if (!isPrivate(server) || loginsPath(env) === undefined) return undefined;
  const place = loginPlace(env, server);
  return readLogin(place) && place;
}

/** Undefined if there is none. Throws an Error if others can read the file, or if it is damaged. */
export function readLogin({ path, origin }: LoginPlace): Login | undefined {
  return readLogins(path)[origin];
}

/**
 * Replaces the login with what `change` returns, or deletes it for undefined. One process at a time: an
 * issuer that gives a new refresh token ends the login when it sees the old one again. Returns the
 * new login. Nothing is written if `change` throws.
 */
export async function changeLogin(
  { path, origin }: LoginPlace,
  change: (kept: Login | undefined) => Promise<Login | undefined>,
): Promise<Login | undefined> {
  const folder = dirname(path);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await chmod(folder, 0o700);
  return inTurn(`${path}.lock`, async () => {
    const { [origin]: kept, ...others } = readLogins(path);
    const next = await change(kept);
    if (next !== kept) await write(path, next ? { ...others, [origin]: next } : others);
    return next;
  });
}

/** The folder of the XDG base directory specification. It says that a relative path is not valid. */
function loginsPath(env: Environment): string | undefined {
  const { HOME: home, XDG_STATE_HOME: given = "" } = env;
  const state = isAbsolute(given) ? given : home && join(home, ".local", "state");
  return state ? join(state, "sessiond", "logins.json") : undefined;
}

function isPrivate({ protocol, hostname }: URL): boolean {
  return protocol === "https:" || isLoopback(hostname.replace(/^\[(.*)\]$/, "$1"));
}

function readLogins(path: string): Readonly<Record<string, Login>> {
  let text: string;
  try {
    text = readPrivate(path);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return {};
    throw error;
  }
  try {
    const logins: Record<string, Login> = JSON.parse(text);
    if (Object.values(logins).every(isLogin)) return logins;
  } catch {
    // JSON.parse repeats the text, in which there are tokens.
  }
  throw new Error(`${path} is damaged; remove it and log in again (sessiond login)`);
}

function readPrivate(path: string): string {
  const file = openSync(path, "r");
  try {
    if ((fstatSync(file).mode & 0o077) !== 0) {
      throw new Error(`others can read the tokens in ${path}; expected mode 0600`);
    }
    return readFileSync(file, "utf8");
  } finally {
    closeSync(file);
  }
}

function isLogin({ issuer, clientId, accessToken, expireTime = "", refreshToken = "" }: Login) {
  return [issuer, clientId, accessToken, expireTime, refreshToken].every(
    (each) => typeof each === "string",
  );
}

/** Readers see the old file or the new one, and a crash leaves no half. */
async function write(path: string, logins: Readonly<Record<string, Login>>): Promise<void> {
  const temporaryPath = `${path}.${randomUUID()}`;
  try {
    const file = await open(temporaryPath, "wx", 0o600);
    try {
      await file.writeFile(`${JSON.stringify(logins, undefined, 2)}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporaryPath, path);
  } finally {
    await rm(temporaryPath, { force: true });
  }
}

/** Node has no lock of files but SQLite's, which the system takes back from a process that dies. */
async function inTurn<T>(path: string, work: () => Promise<T>): Promise<T> {
  const { DatabaseSync } = await import("node:sqlite");
  const lock = new DatabaseSync(path);
  try {
    const deadlineMs = performance.now() + TURN_TIMEOUT_MS;
    while (!isTaken(lock)) {
      if (performance.now() > deadlineMs) throw new Error(`another process holds ${path}`);
      await sleep(TURN_PAUSE_MS);
    }
    return await work();
  } finally {
    lock.close();
  }
}

/** False if another process has the lock. */
function isTaken(lock: { exec(sql: string): void }): boolean {
  try {
    lock.exec("BEGIN EXCLUSIVE");
    return true;
  } catch (error) {
    if (error instanceof Error && "errcode" in error && error.errcode === BUSY) return false;
    throw error;
  }
}
