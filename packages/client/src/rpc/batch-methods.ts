import { create } from "@bufbuild/protobuf";
import type { Session } from "@sessiond/proto/sessiond/v1/session";
import {
  type BatchGetSessionsResponse,
  type BatchVerifySessionsResponse,
  type GetSessionRequest,
  GetSessionResponseSchema,
  type VerifySessionRequest,
  VerifySessionResponseSchema,
} from "@sessiond/proto/sessiond/v1/session_service";
import type { UnaryMethod } from "./methods.js";

/** How calls of one method become one call of another. */
interface BatchMethod<Request, Answer> {
  readonly batch: UnaryMethod & ("batchVerifySessions" | "batchGetSessions");

  /** Names what the calls of a batch have in common. Undefined for a call that fits in no batch. */
  group(request: Request): string | undefined;

  /** What the call asks about. Calls of a group with the same key have the same answer. */
  key(request: Request): string;

  /** The request for several keys of the group that `like` is of. */
  request(keys: string[], like: Request): object;

  answer(session: Session): Answer;
}

type Init<Request> = Partial<Omit<Request, "$typeName" | "readMask">> & {
  readMask?: { paths: string[] };
};

export type BatchAnswer = BatchVerifySessionsResponse | BatchGetSessionsResponse;

const verifySession: BatchMethod<Init<VerifySessionRequest>, unknown> = {
  batch: "batchVerifySessions",
  group: ({ noTouch }) => (noTouch ? "verifySession no touch" : "verifySession"),
  key: ({ token = "" }) => token,
  request: (tokens, { noTouch = false }) => ({ tokens, noTouch }),
  answer: (session) => create(VerifySessionResponseSchema, { session }),
};

const getSession: BatchMethod<Init<GetSessionRequest>, unknown> = {
  batch: "batchGetSessions",
  // A batch has no user ids.
  group: ({ userId = "", readMask }) =>
    userId === "" ? `getSession ${readMask?.paths.join() ?? ""}` : undefined,
  key: ({ sessionId = "" }) => sessionId,
  request: (sessionIds, { readMask }) => ({ sessionIds, ...(readMask && { readMask }) }),
  answer: (session) => create(GetSessionResponseSchema, { session }),
};

const BATCH_METHODS = { verifySession, getSession };

/** How calls of this method become a batch. Undefined if they do not. */
export function batchMethodOf(method: UnaryMethod): BatchMethod<object, unknown> | undefined {
  return Object.hasOwn(BATCH_METHODS, method)
    ? BATCH_METHODS[method as keyof typeof BATCH_METHODS]
    : undefined;
}
