import { randomUUID } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { CallOptions } from "@connectrpc/connect";
import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";
import type { SessionServiceClient } from "./protocols.js";
import { byId, byToken, newSession, newUser, renaming } from "./session-requests.js";

type Methods = typeof SessionService.method;
type UnaryMethod = {
  [Name in keyof Methods]: Methods[Name]["methodKind"] extends "unary" ? Name : never;
}[keyof Methods];

/** What a request needs to succeed. */
interface KnownSession {
  readonly userId: string;
  readonly sessionId: string;
  readonly token: string;
  /** The id of a session of another user, chosen by its caller. */
  readonly chosenId: string;
}

/** A request that succeeds while the store is there. */
export interface ReadyCall {
  readonly name: UnaryMethod;
  call(client: SessionServiceClient, options?: CallOptions): Promise<object>;
}

const CONTENT = {
  displayName: "Ann Ähnlich 🙂",
  roles: ["admin", "b"],
  client: { ip: "203.0.113.7", userAgent: "curl/8", device: "laptop" },
  data: { theme: "dark", cart: [1, 2.5, null, { nested: true }], "a.b": "" },
};

/**
 * Requests of every unary method, in every form that takes its own path through the
 * store. A method that is added to the contract does not compile without one.
 */
const REQUESTS: {
  readonly [Name in UnaryMethod]: (
    known: KnownSession,
  ) => readonly MessageInitShape<Methods[Name]["input"]>[];
} = {
  createSession: ({ userId, chosenId }) => [
    { userId, ...CONTENT, idleTimeout: { seconds: 90n, nanos: 500_000_000 } },
    { userId, client: { ip: "unknown" } },
    { userId, sessionId: `${chosenId}-1`, lifetime: { seconds: 3600n } },
    { userId, requestId: `${chosenId}-2` },
    { userId, requestId: `${chosenId}-3`, sessionId: `${chosenId}-3` },
  ],
  verifySession: ({ token }) => [{ token }, { token, noTouch: true }],
  batchVerifySessions: ({ token }) => [{ tokens: [token, "sst_nonsense", token] }],
  getSession: ({ sessionId, chosenId }) => [
    { sessionId },
    { sessionId: chosenId, readMask: { paths: ["roles", "client.ip"] } },
  ],
  batchGetSessions: ({ sessionId }) => [{ sessionIds: [sessionId, "none"] }],
  listSessions: ({ userId }) => [
    { showRevoked: true, orderBy: "create_time" },
    { userId, pageSize: 1000 },
    { filter: { role: "admin", ip: "203.0.113.7" } },
  ],
  countSessions: ({ userId }) => [{}, { userId }],
  updateSession: ({ sessionId, chosenId }) => [
    renaming(sessionId, "Ann"),
    {
      sessionId: chosenId,
      updateMask: { paths: ["roles", "client.ip"] },
      setData: { theme: "light" },
      deleteData: ["cart"],
    },
  ],
  refreshSession: ({ sessionId, token }) => [byId(sessionId), byToken(token)],
  rotateSessionToken: ({ token }) => [{ token }],
  revokeSession: ({ userId, sessionId, chosenId, token }) => [
    { ...byId(sessionId), userId },
    byId(chosenId),
    byToken(token),
  ],
  revokeUserSessions: ({ userId }) => [{ userId, reason: "logout — häufig" }],
};

/** Every unary method of the service, ready to be called with sessions of its own. */
export async function prepareCalls(client: SessionServiceClient): Promise<readonly ReadyCall[]> {
  const userId = newUser();
  const chosenId = `jti-${randomUUID()}`;
  const known = await newSession(client, { userId });
  await newSession(client, { sessionId: chosenId });
  return SessionService.methods.flatMap((method) => {
    if (method.methodKind !== "unary") return [];
    const name = method.localName as UnaryMethod;
    return REQUESTS[name]({ ...known, userId, chosenId }).map((init) => ({
      name,
      // Which request belongs to which method is checked above, where they stand together.
      call: (client, options) => client[name](init as never, options),
    }));
  });
}
