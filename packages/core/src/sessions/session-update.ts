import { LIMITS } from "../validation.js";
import { keptClient, keptText, type Notice } from "./descriptions.js";
import type { JsonObject, JsonValue, SessionClient, SessionContent } from "./session.js";
import { checkData, checkRoles } from "./session-checks.js";

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

/**
 * The update as it can be applied, and what was changed in its descriptions. Throws
 * INVALID_ARGUMENT if the rest does not fit. Names the fields of UpdateSessionRequest.
 */
export function prepareUpdate(sent: SessionUpdate): {
  readonly update: SessionUpdate;
  readonly notices: readonly Notice[];
} {
  const { displayName, roles, client, data } = sent;
  if (roles !== undefined) checkRoles("session.roles", roles);
  if (data !== undefined) checkData("session.data", data);
  const notices: Notice[] = [];
  const update = {
    ...sent,
    ...(displayName !== undefined && {
      displayName: keptText("session.display_name", displayName, LIMITS.displayNameBytes, notices),
    }),
    ...(client !== undefined && { client: keptClient("session.client", client, notices) }),
  };
  return { update, notices };
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
