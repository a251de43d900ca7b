import { randomUUID } from "node:crypto";
import { create, type DescMethod, type MessageInitShape, toJsonString } from "@bufbuild/protobuf";
import type { CallOptions } from "@connectrpc/connect";
import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";
import type { SessionServiceClient } from "./protocols.js";

type Methods = typeof SessionService.method;
type UnaryMethod = {
  [Name in keyof Methods]: Methods[Name]["methodKind"] extends "unary" ? Name : never;
}[keyof Methods];

/** What requests need that succeed while all is well. */
interface KnownSession {
  readonly userId: string;
  readonly sessionId: string;
  /** The id of another session, chosen by its caller, of any user. */
  readonly chosenId: string;
  readonly token: string;
}

/** A request that would succeed, were the store there. */
export interface ReadyCall {
  /** The method's name, as the contract has it. */
  readonly name: string;
  readonly path: string;
  /** The request, as it is sent in JSON. */
  readonly json: string;
  call(client: SessionServiceClient, options?: CallOptions): Promise<unknown>;
}

/**
 * Requests of every unary method, in every form that goes another way through the
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
  updateSession: ({ sessionId, chosenId }) =>
    [sessionId, chosenId].map((id) => ({
      sessionId: id,
      session: { displayName: "Ann" },
      updateMask: { paths: ["display_name"] },
    })),
  refreshSession: ({ sessionId, token }) => [
    { target: { case: "sessionId", value: sessionId } },
    { target: { case: "token", value: token } },
  ],
  rotateSessionToken: ({ token }) => [{ token }],
  revokeSession: ({ sessionId, chosenId, token }) => [
    { target: { case: "sessionId", value: sessionId } },
    { target: { case: "sessionId", value: chosenId } },
    { target: { case: "token", value: token } },
  ],
  revokeUserSessions: ({ userId }) => [{ userId }],
};

/** Creates what every call needs, apart from any other's. */
export async function prepareCalls(client: SessionServiceClient): Promise<readonly ReadyCall[]> {
  const userId = `user-${randomUUID()}`;
  const chosenId = `jti-${randomUUID()}`;
  const { session, token } = await client.createSession({ userId });
  await client.createSession({ userId: `other-${userId}`, sessionId: chosenId });
  return everyUnaryCall({ userId, sessionId: session?.id ?? "", chosenId, token });
}

/** Every unary method of the service, ready to be called. */
function everyUnaryCall(known: KnownSession): readonly ReadyCall[] {
  const unary = SessionService.methods.filter(({ methodKind }) => methodKind === "unary");
  return unary.flatMap((method) => {
    const name = method.localName as UnaryMethod;
    return REQUESTS[name](known).map((request) => readyCall(method, name, request));
  });
}

function readyCall<Name extends UnaryMethod>(
  method: DescMethod,
  name: Name,
  init: MessageInitShape<Methods[Name]["input"]>,
): ReadyCall {
  const request = create(method.input, init);
  return {
    name: method.name,
    path: `/${method.parent.typeName}/${method.name}`,
    json: toJsonString(method.input, request),
    // Which request belongs to which method is checked above, where they stand together.
    call: async (client, options) => client[name](request as never, options),
  };
}
