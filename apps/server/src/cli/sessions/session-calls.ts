import type { SessionClient } from "@sessiond/client";
import { EXIT_FAILURE, EXIT_OK } from "../command/exit-codes.js";
import { callServer } from "../remote/remote-client.js";
import { writePaced } from "../terminal/paced-output.js";
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

/** Does what `sessiond sessions` was told. Returns the exit code, as the command's help says. */
export function callSessions(
  call: SessionCall,
  outputs: SessionOutputs & { readonly confirm: Confirm | undefined },
): Promise<number> {
  const { server, action } = call;
  const permissions = PERMISSIONS[action];
  return callServer(server, permissions, outputs.stderr, (client) => run(client, call, outputs));
}

function run(
  client: SessionClient,
  call: SessionCall,
  outputs: SessionOutputs & { readonly confirm: Confirm | undefined },
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
