import { randomUUID } from "node:crypto";
import { link, mkdir, open, readFile, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Keyring } from "@sessiond/core";
import {
  calculateJwkThumbprint,
  exportJWK,
  generateKeyPair,
  importJWK,
  type JWK,
  SignJWT,
} from "jose";
import type { AuthConfig } from "./issuer.js";

/** The `iss` of development tokens. */
export const DEVELOPMENT_ISSUER = "sessiond-development";
/** The `aud` of development tokens. */
export const DEVELOPMENT_AUDIENCE = "sessiond";

const ALGORITHM = "ES256";
const KEYRING_FILE = "development-keyring";
const SIGNING_KEY_FILE = "development-signing-key.json";

/**
 * The keyring of a development server: made once, then kept in the data
 * directory. Throws an Error if it can neither be read nor made.
 */
export async function developmentKeyring(dataDir: string): Promise<Keyring> {
  const path = join(dataDir, KEYRING_FILE);
  const text = await readOrCreate(path, async () => `${Keyring.generateKey("development")}\n`);
  return damageNamed(path, () => Keyring.parse(text.trim()));
}

/**
 * A development server accepts only its own tokens. Their signing key is made once,
 * then kept in the data directory. Throws an Error if it can neither be read nor made.
 */
export async function developmentAuthConfig(dataDir: string): Promise<AuthConfig> {
  const { kty, crv, x, y, kid, alg } = await signingKey(dataDir);
  const jwks = JSON.stringify({ keys: [{ kty, crv, x, y, kid, alg, use: "sig" }] });
  const issuer = {
    issuer: DEVELOPMENT_ISSUER,
    audiences: [DEVELOPMENT_AUDIENCE],
    algorithms: [ALGORITHM],
    keys: { kind: "inline", jwks },
    clockToleranceMs: 0,
  } as const;
  return { issuers: [issuer], roles: new Map() };
}

/** What `mintDevelopmentToken` puts into a token, and the server it is for. */
export interface DevelopmentToken {
  readonly dataDir: string;
  readonly permissions: readonly string[];
  readonly subject: string;
  /** The token's lifetime; rounded up to whole seconds. */
  readonly ttlMs: number;
  /** Milliseconds since the epoch; the system's clock by default. */
  readonly now?: () => number;
}

/** Makes an access token for all development servers with this data directory, running or not. */
export async function mintDevelopmentToken(token: DevelopmentToken): Promise<string> {
  const jwk = await signingKey(token.dataDir);
  const issueTime = Math.floor((token.now ?? Date.now)() / 1000);
  const header = { alg: ALGORITHM, typ: "at+jwt", ...(jwk.kid !== undefined && { kid: jwk.kid }) };
  return new SignJWT({ scope: token.permissions.join(" ") })
    .setProtectedHeader(header)
    .setIssuer(DEVELOPMENT_ISSUER)
    .setAudience(DEVELOPMENT_AUDIENCE)
    .setSubject(token.subject)
    .setIssuedAt(issueTime)
    .setExpirationTime(issueTime + Math.ceil(token.ttlMs / 1000))
    .sign(await importJWK(jwk, ALGORITHM));
}

/** The file with the key that signs development tokens. The first token, or the server, makes it. */
export function developmentSigningKeyPath(dataDir: string): string {
  return join(dataDir, SIGNING_KEY_FILE);
}

/** The private key, as a JWK. */
async function signingKey(dataDir: string): Promise<JWK> {
  const path = developmentSigningKeyPath(dataDir);
  const text = await readOrCreate(path, async () => {
    const { privateKey } = await generateKeyPair(ALGORITHM, { extractable: true });
    const jwk = await exportJWK(privateKey);
    return `${JSON.stringify({ ...jwk, alg: ALGORITHM, kid: await calculateJwkThumbprint(jwk) })}\n`;
  });
  return damageNamed(path, () => {
    const jwk: JWK = JSON.parse(text);
    if (jwk.kty !== "EC" || jwk.d === undefined) throw new Error("expected a private EC key");
    return jwk;
  });
}

/**
 * Reads the file, and makes it first if it is missing. If several processes make it at
 * the same time, one wins and all read its file: `link` fails if the name is taken, and
 * the file is complete before it gets the name.
 */
async function readOrCreate(path: string, make: () => Promise<string>): Promise<string> {
  const existing = await readIfExists(path);
  if (existing !== undefined) return existing;
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const temporaryPath = `${path}.${randomUUID()}`;
  try {
    await writeNewFile(temporaryPath, await make());
    await link(temporaryPath, path);
  } catch (error) {
    if (!hasCode(error, "EEXIST")) throw error;
  } finally {
    await rm(temporaryPath, { force: true });
  }
  return readFile(path, "utf8");
}

/** Only the owner can read the file. It is on disk before it gets its name, so a crash leaves no half. */
async function writeNewFile(path: string, text: string): Promise<void> {
  const file = await open(path, "wx", 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function readIfExists(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (hasCode(error, "ENOENT")) return undefined;
    throw error;
  }
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}

/** Says which file is damaged and what to do, and shows nothing of the content. */
function damageNamed<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch {
    throw new Error(`${path} is damaged; remove it to have a new key made`);
  }
}
