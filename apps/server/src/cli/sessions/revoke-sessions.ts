import type { SessionClient } from "@sessiond/client";
import { EXIT_OK } from "../command/exit-codes.js";
import { writePaced } from "../terminal/paced-output.js";
import { jsonLine } from "../terminal/printable.js";
import type { CallOf } from "./session-flags.js";
import type { SessionOutputs } from "./sessions-command.js";

/** Ends sessions by their ids. A session that has ended before is no failure. */
export async function revokeSessions(
  client: SessionClient,
  { sessionIds, userId, reason, json }: CallOf<"revoke">,
  { stdout }: SessionOutputs,
): Promise<number> {
  const options = { reason, ...(userId !== undefined && { userId }) };
  for (const sessionId of sessionIds) {
    const revoked = await client.revokeSession({ sessionId }, options);
    const text = json
      ? jsonLine({ sessionId, revoked })
      : `${sessionId}  ${revoked ? "revoked" : "was not active"}\n`;
    await writePaced(stdout, text);
  }
  return EXIT_OK;
}
