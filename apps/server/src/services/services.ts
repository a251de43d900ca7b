import type { DescService } from "@bufbuild/protobuf";
import { LockService } from "@sessiond/proto/sessiond/v1/lock_service";
import { RateLimitService } from "@sessiond/proto/sessiond/v1/rate_limit_service";
import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";

/** Every service of the contract. A server serves all of them. */
export const SERVICES: readonly DescService[] = [SessionService, LockService, RateLimitService];
