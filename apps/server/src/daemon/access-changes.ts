import { isDeepStrictEqual } from "node:util";
import type { Keyring } from "@sessiond/core";
import type { AuthConfig } from "../auth/issuer.js";
import type { Audit } from "../observability/audit.js";

/** The keyring and the issuers that a server uses. */
export interface Access {
  readonly keyring: Keyring;
  readonly auth: AuthConfig;
}

/**
 * What differs, for the log: ids and names, and nothing secret. A key whose bytes have changed is both
 * removed and added. Empty if nothing differs.
 */
export function accessChanges(before: Access, after: Access): Readonly<Record<string, unknown>> {
  const [oldKey, newKey] = [before.keyring.activeKeyId, after.keyring.activeKeyId];
  const lists = {
    keys_added: after.keyring.keysNotIn(before.keyring),
    keys_removed: before.keyring.keysNotIn(after.keyring),
    ...differences("issuers", issuersByName(before.auth), issuersByName(after.auth)),
    ...differences("roles", before.auth.roles, after.auth.roles),
  };
  return {
    ...(oldKey !== newKey && { active_key: newKey }),
    ...Object.fromEntries(Object.entries(lists).filter(([, names]) => names.length > 0)),
  };
}

/** Has the audit say what differs. */
export function auditAccess(audit: Audit, before: Access, after: Access): void {
  const { active_key, keys_added, keys_removed, ...auth } = accessChanges(before, after);
  if (active_key !== undefined || keys_added !== undefined || keys_removed !== undefined) {
    const [old_key, new_key] = [before.keyring.activeKeyId, after.keyring.activeKeyId];
    audit.record("keyring.changed", { old_key, new_key, keys_added, keys_removed });
  }
  if (Object.keys(auth).length > 0) audit.record("auth.changed", auth);
}

function issuersByName({ issuers }: AuthConfig): ReadonlyMap<string, unknown> {
  return new Map(issuers.map((config) => [config.issuer, config]));
}

function differences(
  what: string,
  before: ReadonlyMap<string, unknown>,
  after: ReadonlyMap<string, unknown>,
): Readonly<Record<string, readonly string[]>> {
  const kept = [...before.keys()].filter((name) => after.has(name));
  return {
    [`${what}_added`]: [...after.keys()].filter((name) => !before.has(name)),
    [`${what}_removed`]: [...before.keys()].filter((name) => !after.has(name)),
    [`${what}_changed`]: kept.filter(
      (name) => !isDeepStrictEqual(before.get(name), after.get(name)),
    ),
  };
}
