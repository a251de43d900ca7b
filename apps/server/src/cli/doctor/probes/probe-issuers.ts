import type { AuthConfig, IssuerConfig } from "../../../auth/issuer.js";
import type { KeySet } from "../../../auth/key-set.js";
import { loadKeySet } from "../../../auth/key-source.js";
import { reasonOf } from "./reason-of.js";

/** As long as a server gives one load. */
const LOAD_TIMEOUT_MS = 5_000;
/** The Date header has whole seconds. */
const DATE_STEP_MS = 1_000;

/** What an issuer answered. */
export interface IssuerProbe {
  readonly config: IssuerConfig;
  /** Its keys, or why there are none. */
  readonly keys: KeySet | { readonly error: string };
  /** Its time minus ours, as bounds. Undefined if it did not say. */
  readonly clockOffsetMs: readonly [least: number, most: number] | undefined;
}

/** Loads the keys of each issuer as a server would. Never rejects. */
export function probeIssuers(auth: AuthConfig | undefined): Promise<readonly IssuerProbe[]> {
  return Promise.all((auth?.issuers ?? []).map(probeIssuer));
}

async function probeIssuer(config: IssuerConfig): Promise<IssuerProbe> {
  const sentMs = Date.now();
  let clockOffsetMs: IssuerProbe["clockOffsetMs"];
  const onAnswer = ({ headers }: Response) => {
    clockOffsetMs ??= offsetBy(headers, sentMs);
  };
  const signal = AbortSignal.timeout(LOAD_TIMEOUT_MS);
  const keys = await loadKeySet(config.issuer, config.keys, signal, onAnswer).catch(
    (error: unknown) => ({ error: reasonOf(error) }),
  );
  return { config, keys, clockOffsetMs };
}

/** A cache answers with the date of the origin, and says how old the answer is (RFC 9111, 5.1). */
function offsetBy(headers: Headers, sentMs: number): IssuerProbe["clockOffsetMs"] {
  const ageMs = Number(headers.get("age") ?? 0) * 1000;
  const dateMs = Date.parse(headers.get("date") ?? "") + ageMs;
  if (Number.isNaN(dateMs)) return undefined;
  return [dateMs - Date.now(), dateMs + DATE_STEP_MS - sentMs];
}
