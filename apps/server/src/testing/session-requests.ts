import { randomUUID } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { CreateSessionRequestSchema } from "@sessiond/proto/sessiond/v1/session_service";
import type { SessionServiceClient } from "./protocols.js";

/** A user that no other test knows. */
export const newUser = () => `user-${randomUUID()}`;

/** Creates a session, for a new user unless the request names one. */
export async function newSession(
  client: SessionServiceClient,
  request: MessageInitShape<typeof CreateSessionRequestSchema> = {},
) {
  const response = await client.createSession({ userId: newUser(), ...request });
  const { session, token, evictedSessionIds } = response;
  if (session === undefined) throw new Error("expected a session in the response");
  return { session, sessionId: session.id, token, evictedSessionIds };
}

/** Names a session to refresh or to revoke by its id. */
export const byId = (value: string) => ({ target: { case: "sessionId", value } }) as const;

/** Names a session to refresh or to revoke by its token. */
export const byToken = (value: string) => ({ target: { case: "token", value } }) as const;

/** A request to change the display name of a session. */
export const renaming = (sessionId: string, displayName: string) => ({
  sessionId,
  session: { displayName },
  updateMask: { paths: ["display_name"] },
});
