import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { AcquireLock, HeldLock } from "@sessiond/core";
import type * as rpc from "@sessiond/proto/sessiond/v1/lock_service";
import { fromDuration } from "./wire-time.js";

// Pure conversions between the messages of LockService and the domain.

export function fromAcquireRequest(
  request: rpc.AcquireLockRequest,
  signal: AbortSignal,
): AcquireLock {
  const { name, ttl, waitTimeout, lockId } = request;
  return {
    name,
    signal,
    ...(lockId !== "" && { lockId }),
    ...(ttl && { ttlMs: fromDuration("ttl", ttl) }),
    ...(waitTimeout && { waitTimeoutMs: fromDuration("wait_timeout", waitTimeout) }),
  };
}

/** How long a lease shall last; as the domain has it where a request says nothing. */
export function fromTtl({ ttl }: rpc.RenewLockRequest): number | undefined {
  return ttl && fromDuration("ttl", ttl);
}

/** The fields of every answer that say what a lock is. */
export function toLockFields({ fencingToken, expireTimeMs }: HeldLock) {
  return { fencingToken: BigInt(fencingToken), expireTime: timestampFromMs(expireTimeMs) };
}
