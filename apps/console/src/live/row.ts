import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { type Session, SessionState } from "@sessiond/proto/sessiond/v1/session";

/** A session as the list has it: what is sorted, compared or counted down is a number. */
export interface Row {
  readonly id: string;
  readonly session: Session;
  readonly createMs: number;
  readonly lastAccessMs: number;
  readonly expireMs: number;
}

/** How a session fares at this time of the server's clock. */
export type RowState = "active" | "expired" | "revoked";

export function toRow(session: Session): Row {
  return {
    id: session.id,
    session,
    createMs: toMs(session.createTime),
    lastAccessMs: toMs(session.lastAccessTime),
    expireMs: toMs(session.expireTime),
  };
}

export function stateOf({ session, expireMs }: Row, nowMs: number): RowState {
  if (session.state === SessionState.REVOKED) return "revoked";
  return session.state === SessionState.EXPIRED || nowMs >= expireMs ? "expired" : "active";
}

export function toMs(time: Timestamp | undefined): number {
  return time === undefined ? 0 : timestampMs(time);
}
