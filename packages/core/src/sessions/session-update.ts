import { invalidArgument } from "../errors.js";
import { LIMITS } from "../validation.js";
import { keptClient, keptText, type Notice } from "./descriptions.js";
import type { JsonObject, SessionClient, SessionContent } from "./session.js";
import { checkData, checkRoles } from "./session-checks.js";

/** Changes to a session. Absent fields stay as they are. */
export interface SessionUpdate {
  readonly displayName?: string;
  readonly roles?: readonly string[];
  /** Changes the given parts only. */
  readonly client?: Partial<SessionClient>;
  /** Replaces the whole data. */
  readonly data?: JsonObject;
  /** Sets top-level keys of the data, after `data`. */
  readonly setData?: JsonObject;
  /** Deletes top-level keys of the data, after `data`. None of them may be in `setData`. */
  readonly deleteData?: readonly string[];
}

/**
 * The update as it can be applied, and what was changed in its descriptions. Throws
 * INVALID_ARGUMENT if the rest does not fit. Names the fields of UpdateSessionRequest.
 */
export function prepareUpdate(sent: SessionUpdate): {
  readonly update: SessionUpdate;
  readonly notices: readonly Notice[];
} {
  const { displayName, roles, client, data, setData, deleteData = [] } = sent;
  if (roles !== undefined) checkRoles("session.roles", roles);
  if (data !== undefined) checkData("session.data", data);
  if (setData !== undefined) checkData("set_data", setData);
  for (const [i, key] of deleteData.entries()) {
    // By its position: messages are logged, and a key is data.
    if (setData !== undefined && Object.hasOwn(setData, key)) {
      throw invalidArgument(`delete_data[${i}]`, "expected a key that set_data does not have");
    }
  }
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
    data: applyToData(update.data ?? content.data, update),
  };
}

function applyToData(data: JsonObject, { setData = {}, deleteData = [] }: SessionUpdate) {
  // A map: assigning to a key named __proto__ on an object would not set it.
  const entries = new Map(Object.entries(data));
  for (const key of deleteData) entries.delete(key);
  for (const [key, value] of Object.entries(setData)) entries.set(key, value);
  const result = Object.fromEntries(entries);
  if (Object.keys(setData).length > 0) checkData("set_data", result);
  return result;
}
