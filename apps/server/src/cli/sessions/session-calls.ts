import { type SessionClient, SessiondError } from "@sessiond/client";
import { EXIT_FAILURE, EXIT_OK, exitCodeOf } from "../command/exit-codes.js";
import { connectTo, reportFailure } from "../remote/remote-client.js";
import { ReaderGoneError, writePaced } from "../terminal/paced-output.js";
import { jsonLine } from "../terminal/printable.js";
import { listSessions } from "./list-sessions.js";
import { revokeSessions } from "./revoke-sessions.js";
import { type Confirm, revokeUsers } from "./revoke-users.js";
import type { CallOf, SessionAction, SessionCall } from "./session-flags.js";
import { describeSession } from "./session-table.js";
import type { SessionOutputs } from "./sessions-command.js";
import { watchSessions } from "./watch-sessions.js";

const PERMISSIONS: Readonly<Record<SessionAction, readonly string[]>> = {
  list: ["sessions:read"],
  get: ["sessions:read"],
  count: ["sessions:read"],
  watch: ["sessions:read"],
  revoke: ["sessions:delete"],
  "revoke-user": ["sessions:read", "sessions:delete"],
};

/**
 * Does what `sessiond sessions` was told. Returns the exit code: 128 and the number of SIGPIPE if
 * the reader of stdout has gone, else as the command's help says.
 */
export async function callSessions(
  call: SessionCall,
  outputs: SessionOutputs & { readonly confirm: Confirm },
): Promise<number> {
  using client = connectTo(call.server, PERMISSIONS[call.action]);
  try {
    return await run(client, call, outputs);
  } catch (error) {
    if (error instanceof ReaderGoneError) return exitCodeOf("SIGPIPE");
    if (error instanceof SessiondError) return reportFailure(error, call.server, outputs.stderr);
    throw error;
  }
}

function run(
  client: SessionClient,
  call: SessionCall,
  outputs: SessionOutputs & { readonly confirm: Confirm },
): Promise<number> {
  switch (call.action) {
    case "list":
      return listSessions(client, call, outputs);
    case "get":
      return getSession(client, call, outputs);
    case "count":
      return countSessions(client, call, outputs);
    case "revoke":
      return revokeSessions(client, call, outputs);
    case "revoke-user":
      return revokeUsers(client, call, outputs);
    case "watch":
      return watchSessions(client, call, outputs);
  }
}

async function getSession(
  client: SessionClient,
  { sessionId, userId, json }: CallOf<"get">,
  { stdout, stderr }: SessionOutputs,
): Promise<number> {
  const session = await client.getSession(sessionId, userId === undefined ? {} : { userId });
  if (session === undefined) {
    stderr.write("sessiond: no active session has this id\n");
    return EXIT_FAILURE;
  }
  await writePaced(stdout, json ? jsonLine(session) : describeSession(session, Date.now()));
  return EXIT_OK;
}

async function countSessions(
  client: SessionClient,
  { userId, json }: CallOf<"count">,
  { stdout }: SessionOutputs,
): Promise<number> {
  const count = await client.countSessions(userId === undefined ? {} : { userId });
  await writePaced(stdout, json ? jsonLine({ count }) : `${count}\n`);
  return EXIT_OK;
}
