import type { DescMethod } from "@bufbuild/protobuf";
import { LockService } from "@sessiond/proto/sessiond/v1/lock_service";
import { RateLimitService } from "@sessiond/proto/sessiond/v1/rate_limit_service";
import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";

/** How a method is treated if there are too many calls. */
export interface Treatment {
  readonly method: DescMethod;
  /** The part of the limit that calls of its kind may fill. Endings have no limit. */
  readonly share: number;
  /** Whether it may wait for minutes, with a bound of its own, and so does not count as work. */
  readonly waits: boolean;
}

/** Never refused, since it ends something that somebody may have stolen, or lets others go on. */
const ENDING = Number.POSITIVE_INFINITY;
/** Every page view of every user needs it, and clients put many into one batch. Shed last. */
const VERIFY = 1;
const ORDINARY = 0.85;
/** What costs much, and what can be done a little later. Shed first. */
const COSTLY = 0.7;

const SHARES: Readonly<Record<string, number>> = {
  revokeSession: ENDING,
  revokeUserSessions: ENDING,
  releaseLock: ENDING,
  verifySession: VERIFY,
  batchVerifySessions: VERIFY,
  createSession: COSTLY,
  listSessions: COSTLY,
  countSessions: COSTLY,
  watchSessions: COSTLY,
  acquireLock: COSTLY,
};
const WAITING = new Set<DescMethod>([
  SessionService.method.watchSessions,
  LockService.method.acquireLock,
]);

/** Each method of the contract by the path of its requests. */
export const TREATMENTS: ReadonlyMap<string, Treatment> = new Map(
  [SessionService, LockService, RateLimitService]
    .flatMap(({ methods }) => methods as readonly DescMethod[])
    .map((method) => [
      `/${method.parent.typeName}/${method.name}`,
      { method, share: SHARES[method.localName] ?? ORDINARY, waits: WAITING.has(method) },
    ]),
);
