import { readFile } from "node:fs/promises";
import { parseTrustedUrl } from "../network/trusted-url.js";
import { type KeySet, parseKeySet } from "./key-set.js";

/** Where an issuer's keys come from. `discovery` asks the issuer (OpenID Connect Discovery 1.0). */
export type KeySource =
  | { readonly kind: "discovery" }
  | { readonly kind: "url"; readonly url: string }
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "inline"; readonly jwks: string };

/** Far more than issuers need: a JWK Set with certificate chains has about 20 KiB. */
const MAX_DOCUMENT_BYTES = 256 * 1024;

/** Hears each answer of an issuer, such as for its headers. */
export type OnAnswer = (answer: Response) => void;

/**
 * Loads an issuer's keys until `signal` aborts. Throws an Error if that fails. Every load
 * starts with discovery, so that an issuer can move its keys.
 */
export async function loadKeySet(
  issuer: string,
  source: KeySource,
  signal: AbortSignal,
  onAnswer: OnAnswer = () => {},
): Promise<KeySet> {
  const fetchText = (url: URL) => fetchDocument(url, signal, onAnswer);
  switch (source.kind) {
    case "inline":
      return parseKeySet(source.jwks);
    case "file":
      return parseKeySet(await readFile(source.path, { encoding: "utf8", signal }));
    case "url":
      return parseKeySet(await fetchText(parseTrustedUrl(source.url)));
    case "discovery":
      return parseKeySet(await fetchText(await discoverKeys(issuer, fetchText)));
  }
}

/** Asks the issuer where its keys are. Refuses an answer about another issuer (Discovery, 4.3). */
async function discoverKeys(
  issuer: string,
  fetchText: (url: URL) => Promise<string>,
): Promise<URL> {
  const url = parseTrustedUrl(`${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`);
  const document: unknown = JSON.parse(await fetchText(url));
  if (typeof document !== "object" || document === null) {
    throw new Error(`expected a JSON object from ${url}`);
  }
  if (!("issuer" in document) || document.issuer !== issuer) {
    throw new Error(`the document at ${url} is about another issuer`);
  }
  if (!("jwks_uri" in document) || typeof document.jwks_uri !== "string") {
    throw new Error(`the document at ${url} names no jwks_uri`);
  }
  return parseTrustedUrl(document.jwks_uri);
}

/** Refuses redirects: they could lead to hosts that the configuration does not trust. */
async function fetchDocument(url: URL, signal: AbortSignal, onAnswer: OnAnswer): Promise<string> {
  const headers = { accept: "application/json, application/jwk-set+json" };
  const response = await fetch(url, { headers, redirect: "manual", signal });
  onAnswer(response);
  if (response.status !== 200 || response.body === null) {
    await response.body?.cancel();
    throw new Error(`expected status 200 from ${url}, got ${response.status}`);
  }
  const chunks: Uint8Array[] = [];
  let size = 0;
  // To leave the loop cancels the rest of the body.
  for await (const chunk of response.body) {
    size += chunk.length;
    if (size > MAX_DOCUMENT_BYTES) {
      throw new Error(`expected at most ${MAX_DOCUMENT_BYTES} bytes from ${url}`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}
