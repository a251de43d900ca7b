import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { AcquireLock, HeldLock } from "@sessiond/core";
import type * as rpc from "@sessiond/proto/sessiond/v1/lock_service";
import { fromDuration } from "./protobuf-time.js";

// Pure conversions between the messages of LockService and the domain.

export function fromAcquireRequest(
  request: rpc.AcquireLockRequest,
  caller: string,
  signal: AbortSignal,
): AcquireLock {
  const { name, ttl, waitTimeout, lockId } = request;
  return {
    name,
    caller,
    signal,
    ...(lockId !== "" && { lockId }),
    ...(ttl && { ttlMs: fromDuration("ttl", ttl) }),
    ...(waitTimeout && { waitTimeoutMs: fromDuration("wait_timeout", waitTimeout) }),
  };
}

/** The lease's length. Undefined means the domain's default. */
export function fromTtl({ ttl }: rpc.RenewLockRequest): number | undefined {
  return ttl && fromDuration("ttl", ttl);
}

export function toLockFields({ fencingToken, expireTimeMs }: HeldLock) {
  return { fencingToken: BigInt(fencingToken), expireTime: timestampFromMs(expireTimeMs) };
}
