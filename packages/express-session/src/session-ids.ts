import { hash } from "node:crypto";

/**
 * The credential of the session that replaces the first one of a session id. sessiond's sessions
 * have one user and their tokens are used once, so the session of a user who logs in under a
 * guest's id needs a credential of its own. It follows from the session id, which is as secret.
 */
export function successorOf(sid: string): string {
  return hash("sha256", `sessiond successor ${sid}`, "base64url");
}

/**
 * The user of a guest's session, each guest a user of its own: so guests count for nobody's limit.
 * It is a hash, because user ids stand in logs and the session id is a credential.
 */
export function guestOf(sid: string): string {
  return `guest:${hash("sha256", `sessiond guest ${sid}`, "base64url")}`;
}
