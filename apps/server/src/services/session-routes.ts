import type { ConnectRouter } from "@connectrpc/connect";
import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";
import { callerKey, nameOf } from "../auth/caller.js";
import { fromUpdateRequest, readMaskOf } from "./field-masks.js";
import { sizeOfSession as sizeOf } from "./message-sizes.js";
import type { Namespaces } from "./namespaces.js";
import { provenSessionIdKey } from "./proven-session.js";
import { WATCH_MOVES } from "./rpc-error.js";
import {
  fromCreateRequest,
  fromFence,
  fromListRequest,
  fromRotateRequest,
  fromTarget,
  fromText,
  sessionIdOfTarget,
  toResultMessage,
  toSessionMessage,
  toWatchMessage,
} from "./session-messages.js";

/**
 * SessionService: each handler converts, calls the domain, and converts back.
 * `watchAgeMs` says after which time a watch must continue over another connection.
 */
export function sessionRoutes(
  namespaces: Namespaces,
  { watchAgeMs = () => Number.POSITIVE_INFINITY }: { readonly watchAgeMs?: () => number } = {},
): (router: ConnectRouter) => void {
  return (router) =>
    router.service(SessionService, {
      async createSession(request, context) {
        const sessions = namespaces.sessionsOf(context);
        const create = fromCreateRequest(request, nameOf(context.values.get(callerKey)));
        const { session, token, ...created } = await sessions.create(create);
        return {
          session: toSessionMessage(session),
          token,
          evictedSessionIds: [...created.evictedSessionIds],
          notices: [...created.notices],
        };
      },

      async verifySession({ token, noTouch }, context) {
        const sessions = namespaces.sessionsOf(context);
        return { session: toSessionMessage(await sessions.verify(token, { touch: !noTouch })) };
      },

      async batchVerifySessions({ tokens, noTouch }, context) {
        const sessions = namespaces.sessionsOf(context);
        const results = await sessions.verifyMany(tokens, { touch: !noTouch });
        return { results: results.map(toResultMessage) };
      },

      async getSession({ sessionId, userId, readMask }, context) {
        const sessions = namespaces.sessionsOf(context);
        const mask = readMaskOf(readMask);
        const session = await sessions.get(sessionId, { userId: fromText(userId) });
        return { session: mask(toSessionMessage(session)) };
      },

      async batchGetSessions({ sessionIds, readMask }, context) {
        const sessions = namespaces.sessionsOf(context);
        const mask = readMaskOf(readMask);
        const results = (await sessions.getMany(sessionIds)).map(toResultMessage);
        for (const { result } of results) {
          if (result.case === "session") result.value = mask(result.value);
        }
        return { results };
      },

      async listSessions(request, context) {
        const sessions = namespaces.sessionsOf(context);
        const page = await sessions.list({ ...fromListRequest(request), sizeOf });
        return {
          sessions: page.sessions.map(toSessionMessage),
          nextPageToken: page.nextPageToken ?? "",
          unreadableSessionIds: [...page.unreadableSessionIds],
        };
      },

      async countSessions({ userId }, context) {
        const sessions = namespaces.sessionsOf(context);
        return { count: await sessions.count(fromText(userId)) };
      },

      async updateSession(request, context) {
        const sessions = namespaces.sessionsOf(context);
        const update = fromUpdateRequest(request);
        const { sessionId, userId, etag } = request;
        const fence = fromFence(request.fence);
        const options = { userId: fromText(userId), etag: fromText(etag), fence };
        const { session, notices } = await sessions.update(sessionId, update, options);
        return { session: toSessionMessage(session), notices: [...notices] };
      },

      async refreshSession({ target }, context) {
        const sessions = namespaces.sessionsOf(context);
        return { session: toSessionMessage(await sessions.refresh(fromTarget(target))) };
      },

      async rotateSessionToken(request, context) {
        const sessions = namespaces.sessionsOf(context);
        const rotate = fromRotateRequest(request, nameOf(context.values.get(callerKey)));
        const { session, token } = await sessions.rotateToken(request.token, rotate);
        return { session: toSessionMessage(session), token };
      },

      async revokeSession(request, context) {
        const sessions = namespaces.sessionsOf(context);
        const target = fromTarget(request.target);
        const { reason, userId } = request;
        const revoked = await sessions.revoke(target, reason, fromText(userId));
        // Only a token with the right secret revokes. The response does not name its session.
        if (revoked) context.values.set(provenSessionIdKey, sessionIdOfTarget(target));
        return { revoked };
      },

      async revokeUserSessions({ userId, exceptSessionId, reason }, context) {
        const sessions = namespaces.sessionsOf(context);
        const options = { exceptSessionId: fromText(exceptSessionId), reason };
        return { revokedCount: await sessions.revokeUser(userId, options) };
      },

      async *watchSessions({ userId, resumeToken }, context) {
        const sessions = namespaces.sessionsOf(context);
        const request = {
          userId: fromText(userId),
          resumeToken: fromText(resumeToken),
          caller: nameOf(context.values.get(callerKey)),
          signal: context.signal,
        };
        const endMs = performance.now() + watchAgeMs();
        for await (const message of sessions.watch(request)) {
          yield toWatchMessage(message);
          // There is a message each second.
          if (performance.now() >= endMs) throw WATCH_MOVES;
        }
      },
    });
}
