import { hash } from "node:crypto";
import { rateLimitFields, type SessionClient } from "@sessiond/client";
import type { SessionData } from "../register.js";
import { addressKey } from "../requests/client-info.js";
import type { ResponseHead } from "../requests/response-head.js";
import { retryAfter } from "../web-error.js";

/** What an attempt to log in is counted by. */
export interface LoginKeys {
  readonly address: string;
  readonly addressAndUser: string;
}

/**
 * The keys of an attempt. The user name is hashed: it may be long, and the store must not contain
 * it. Names that differ only in case or Unicode form count as one.
 */
export function loginKeys(clientAddress: string, userName: string): LoginKeys {
  const address = addressKey(clientAddress);
  const name = userName.normalize("NFKC").trim().toLowerCase();
  return { address, addressAndUser: `${address} ${hash("sha256", name)}` };
}

/**
 * Counts an attempt and adds the RateLimit fields to `head`. Returns the header fields of a refusal,
 * or undefined if the attempt is allowed.
 */
export async function countAttempt(
  client: SessionClient<SessionData>,
  { policy, key, nowMs }: { policy: string; key: string; nowMs: number },
  head: ResponseHead,
): Promise<{ "Retry-After": string } | undefined> {
  const answer = await client.rateLimits.check(policy, key);
  if (!head.isSent) {
    const fields = rateLimitFields(policy, answer, nowMs);
    for (const [name, value] of Object.entries(fields)) head.append(name, value);
  }
  return answer.allowed ? undefined : retryAfter(answer.retryAfterMs);
}
