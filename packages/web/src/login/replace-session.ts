import type { CreatedSession, NewSession, SessionClient } from "@sessiond/client";
import type { SessionData } from "../register.js";

/** Starts a session, and ends the one whose token the client brought. Or changes nothing. */
export async function replaceSession(
  client: SessionClient<SessionData>,
  brought: string | undefined,
  user: NewSession<SessionData>,
): Promise<CreatedSession<SessionData>> {
  const created = await client.createSession(user);
  try {
    await client.revokeSession({ token: brought }, { reason: "replaced by a login" });
  } catch (error) {
    // The user stays as they were, and the new session must not stay without an owner.
    await client.revokeSession({ token: created.token }).catch(() => {});
    throw error;
  }
  return created;
}
