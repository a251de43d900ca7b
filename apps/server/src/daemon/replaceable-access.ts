import type { Keyring } from "@sessiond/core";
import type { Logger } from "pino";
import {
  type AccessTokenVerifier,
  createAccessTokenVerifier,
  MAX_KID_LENGTH,
} from "../auth/access-token.js";
import { developmentAuthConfig, developmentKeyring } from "../auth/development-keys.js";
import type { AccessConfig, Config } from "../config/config.js";
import type { Audit } from "../observability/audit.js";
import type { Metrics } from "../observability/metrics.js";
import type { Tracing } from "../observability/tracing.js";
import { type Access, accessChanges, auditAccess } from "./access-changes.js";
import { onceAMinute } from "./once-a-minute.js";

/** How many ids of keys a line has. Issuers have two to ten keys. */
const MAX_LISTED_KIDS = 20;

/** What tells an operator how the loading of issuers' keys goes. */
interface Instruments {
  readonly logger: Logger;
  readonly audit: Audit;
  readonly metrics: Metrics;
  readonly tracing: Tracing | undefined;
}

/** The keyring and the issuers of a running server, which an operator may replace at any time. */
export class ReplaceableAccess {
  /** The same object for good: its keys are replaced in it. */
  readonly keyring: Keyring;
  /** Closed by the caller. */
  readonly verifier: AccessTokenVerifier;
  readonly #made: Access;
  readonly #logger: Logger;
  readonly #audit: Audit;
  #current: Access;

  private constructor(
    made: Access,
    { issuerKeysMaxAgeMs, issuerAnswerWaitMs }: Config,
    { logger, audit, metrics, tracing }: Instruments,
  ) {
    this.keyring = made.keyring;
    this.verifier = createAccessTokenVerifier(made.auth, {
      keysMaxAgeMs: issuerKeysMaxAgeMs,
      answerWaitMs: issuerAnswerWaitMs,
      onLoadFailure: loadFailureReport(logger, metrics),
      onKeysChanged: (issuer, { added, removed }) => {
        const changes = { kids_added: listed(added), kids_removed: listed(removed) };
        logger.info({ issuer, ...changes }, "signing keys changed");
      },
      aroundLoad: tracing?.aroundKeyLoad,
    });
    // So that a rate shows the first failure, too.
    for (const { issuer } of made.auth.issuers) {
      metrics.counter("sessiond_issuer_keys_failures_total", { issuer });
    }
    this.#made = made;
    this.#current = made;
    this.#logger = logger;
    this.#audit = audit;
  }

  /** Takes what is configured. A development server makes the rest itself. */
  static async open(config: Config, instruments: Instruments): Promise<ReplaceableAccess> {
    const keyring = config.keyring ?? (await developmentKeyring(config.dataDir));
    const auth = config.auth ?? (await developmentAuthConfig(config.dataDir));
    return new ReplaceableAccess({ keyring, auth }, config, instruments);
  }

  /** What is in use. */
  get current(): Access {
    return this.#current;
  }

  /** Uses this keyring and these issuers from now on, all at once, and logs what has changed. */
  replaceWith({ keyring, auth }: AccessConfig): void {
    // What a development server made itself stays.
    const next = { keyring: keyring ?? this.#made.keyring, auth: auth ?? this.#made.auth };
    const changes = accessChanges(this.#current, next);
    auditAccess(this.#audit, this.#current, next);
    const isChanged = Object.keys(changes).length > 0;
    this.#logger.info(changes, `reloaded keyring and auth file${isChanged ? "" : ": no change"}`);
    this.keyring.replaceWith(next.keyring);
    this.verifier.accept(next.auth);
    this.#current = next;
  }
}

function listed(kids: readonly string[]): readonly string[] {
  return kids.slice(0, MAX_LISTED_KIDS).map((kid) => kid.slice(0, MAX_KID_LENGTH));
}

/**
 * Counts failed loads of an issuer's keys, and logs each fault about once a minute: loads are tried
 * each second.
 */
function loadFailureReport(
  logger: Logger,
  metrics: Metrics,
): (issuer: string, cause: unknown) => void {
  const log = onceAMinute((failure: { readonly issuer: string; readonly err: unknown }) =>
    logger.warn(failure, "no signing keys"),
  );
  return (issuer, err) => {
    metrics.counter("sessiond_issuer_keys_failures_total", { issuer }).add();
    log(issuer, { issuer, err });
  };
}
