import type { MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { Methods, UnaryMethod } from "../rpc/methods.js";
import { type Change, keyOf } from "./near-cache.js";

type Request<M extends UnaryMethod> = MessageInitShape<Methods[M]["input"]>;
type Answer<M extends UnaryMethod> = MessageShape<Methods[M]["output"]>;

/**
 * What a call of ours changes, by its method. A call that failed has no answer, and may have changed
 * what it names.
 */
const CHANGES: {
  readonly [M in UnaryMethod]?: (
    request: Request<M>,
    answer: Answer<M> | undefined,
  ) => readonly Change[];
} = {
  createSession: (_, answer) =>
    (answer?.evictedSessionIds ?? []).map((sessionId) => ({ sessionId })),
  updateSession: ({ sessionId = "" }) => [{ sessionId }],
  refreshSession: ({ target }, answer) => [...targeted(target), ...changed(answer)],
  rotateSessionToken: ({ token = "" }, answer) => [{ key: keyOf(token) }, ...changed(answer)],
  revokeSession: ({ target }) => targeted(target),
  revokeUserSessions: ({ userId = "" }) => [{ userId }],
};

/** What a call of ours has changed, so that the cache shows it before the stream tells. */
export function changesOf<M extends UnaryMethod>(
  method: M,
  request: Request<M>,
  answer: Answer<M> | undefined,
): readonly Change[] {
  return CHANGES[method]?.(request, answer) ?? [];
}

function targeted(target: Request<"revokeSession">["target"]): readonly Change[] {
  switch (target?.case) {
    case "sessionId":
      return [{ sessionId: target.value }];
    case "token":
      return [{ key: keyOf(target.value) }];
    default:
      return [];
  }
}

function changed(
  answer: { readonly session?: { readonly id: string } | undefined } | undefined,
): Change[] {
  return answer?.session === undefined ? [] : [{ sessionId: answer.session.id }];
}
