import { randomUUID } from "node:crypto";
import { create, type MessageInitShape, toJsonString } from "@bufbuild/protobuf";
import type { CallOptions } from "@connectrpc/connect";
import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";
import { pathOf, type SessionServiceClient } from "./protocols.js";
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
  readonly path: string;
  /** The request in JSON. */
  readonly json: string;
  call(client: SessionServiceClient, options?: CallOptions): Promise<unknown>;
}

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
    { userId },
    { userId, sessionId: `${chosenId}-1` },
    { userId, requestId: `${chosenId}-2` },
    { userId, requestId: `${chosenId}-3`, sessionId: `${chosenId}-3` },
  ],
  verifySession: ({ token }) => [{ token }, { token, noTouch: true }],
  batchVerifySessions: ({ token }) => [{ tokens: [token, token] }],
  getSession: ({ sessionId, chosenId }) => [{ sessionId }, { sessionId: chosenId }],
  batchGetSessions: ({ sessionId }) => [{ sessionIds: [sessionId] }],
  listSessions: ({ userId }) => [{}, { userId }, { filter: { role: "admin" } }],
  countSessions: ({ userId }) => [{}, { userId }],
  updateSession: ({ sessionId, chosenId }) => [
    renaming(sessionId, "Ann"),
    renaming(chosenId, "Ann"),
  ],
  refreshSession: ({ sessionId, token }) => [byId(sessionId), byToken(token)],
  rotateSessionToken: ({ token }) => [{ token }],
  revokeSession: ({ sessionId, chosenId, token }) => [
    byId(sessionId),
    byId(chosenId),
    byToken(token),
  ],
  revokeUserSessions: ({ userId }) => [{ userId }],
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
      path: pathOf(method),
      json: toJsonString(method.input, create(method.input, init)),
      // Which request belongs to which method is checked above, where they stand together.
      call: (client, options) => client[name](init as never, options),
    }));
  });
}
