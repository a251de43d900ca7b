import { setTimeout as sleep } from "node:timers/promises";
import { failureIfAny } from "./outcome.js";
import type { SessionServiceClient } from "./protocols.js";
import { byId, newSession, newUser } from "./session-requests.js";

const CALLERS = 8;
const USERS = 40;
/** The idle timeout of sessions that shall expire soon. */
const SHORT = { seconds: 1n };

/**
 * Creates sessions through all of these servers for a while. Every fifth is revoked through the next
 * server, every third expires after a second. The users are few, so that their limits evict sessions.
 * Resolves when the last of the short sessions has expired.
 */
export async function runSessionStorm(
  clients: readonly SessionServiceClient[],
  durationMs: number,
): Promise<void> {
  const endMs = performance.now() + durationMs;
  const users = Array.from({ length: USERS }, newUser);
  const client = (i: number) => clients[i % clients.length] as SessionServiceClient;
  const call = async (i: number) => {
    const userId = users[i % USERS] ?? "";
    const { token, sessionId } = await newSession(client(i), {
      userId,
      ...(i % 3 === 0 && { idleTimeout: SHORT }),
    });
    if (i % 5 === 0) await client(i + 1).revokeSession(byId(sessionId));
    // Another caller may have evicted it meanwhile.
    else await failureIfAny(client(i + 1).verifySession({ token }));
    if (i % 100 === 99) await client(i).revokeUserSessions({ userId });
  };
  const caller = async (first: number) => {
    for (let i = first; performance.now() < endMs; i += CALLERS) await call(i);
  };
  await Promise.all(Array.from({ length: CALLERS }, (_, n) => caller(n)));
  await sleep(1_100);
}
