import { checkText, LIMITS } from "../validation.js";
import type { JsonObject, JsonValue, SessionClient, SessionContent } from "./session.js";
import { checkClient, checkData, checkRoles } from "./session-checks.js";

/** Changes to a session. Absent fields stay as they are. */
export interface SessionUpdate {
  readonly displayName?: string;
  readonly roles?: readonly string[];
  /** Changes the given parts only. */
  readonly client?: Partial<SessionClient>;
  /** Replaces the whole data. */
  readonly data?: JsonObject;
  /** Sets top-level keys of the data, after `data`; undefined removes the key. */
  readonly dataKeys?: ReadonlyMap<string, JsonValue | undefined>;
}

/** Throws INVALID_ARGUMENT if a value does not fit. Names the field of UpdateSessionRequest. */
export function checkUpdate(update: SessionUpdate): void {
  if (update.displayName !== undefined) {
    checkText("session.display_name", update.displayName, LIMITS.displayNameBytes);
  }
  if (update.roles !== undefined) checkRoles("session.roles", update.roles);
  if (update.client !== undefined) checkClient("session.client", update.client);
  if (update.data !== undefined) checkData("session.data", update.data);
}

/** The content after an update. Throws INVALID_ARGUMENT if the new keys make the data too large. */
export function applyUpdate(content: SessionContent, update: SessionUpdate): SessionContent {
  return {
    displayName: update.displayName ?? content.displayName,
    roles: update.roles ?? content.roles,
    client: { ...content.client, ...update.client },
    data: applyToData(update.data ?? content.data, update.dataKeys),
  };
}

function applyToData(data: JsonObject, keys: SessionUpdate["dataKeys"]): JsonObject {
  if (keys === undefined || keys.size === 0) return data;
  // A map: assigning to a key named __proto__ on an object would not set it.
  const entries = new Map(Object.entries(data));
  for (const [key, value] of keys) {
    if (value === undefined) entries.delete(key);
    else entries.set(key, value);
  }
  const merged = Object.fromEntries(entries);
  checkData("session.data", merged);
  return merged;
}
