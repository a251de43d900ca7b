import type { Session, SessionClient } from "@sessiond/client";
import { EXIT_FAILURE, EXIT_OK } from "../command/exit-codes.js";
import { terminalWidth } from "../command/terminal-width.js";
import { writePaced } from "../terminal/paced-output.js";
import { jsonLine } from "../terminal/printable.js";
import { Table } from "../terminal/table.js";
import type { CallOf } from "./session-flags.js";
import { sessionColumns } from "./session-table.js";
import type { SessionOutputs } from "./sessions-command.js";

/** Sessions per call. The program never holds more than a page and a batch. */
const PAGE_SIZE = 500;
/** Sessions per write. The first ones decide how wide the columns are. */
const BATCH_SIZE = 100;

/** Lists sessions as fast as the reader takes them. */
export async function listSessions(
  client: SessionClient,
  { query, limit = Number.POSITIVE_INFINITY, format }: CallOf<"list">,
  { stdout, stderr, colors }: SessionOutputs,
): Promise<number> {
  const hasEnded = query.showExpired === true || query.showRevoked === true;
  const columns = sessionColumns(Date.now(), hasEnded);
  const table = new Table(columns, { width: terminalWidth(stdout), colors });
  const textOf = {
    json: (sessions: readonly Session[]) => sessions.map(jsonLine).join(""),
    ids: (sessions: readonly Session[]) => sessions.map(({ id }) => `${id}\n`).join(""),
    table: (sessions: readonly Session[]) => table.lines(sessions),
  }[format];
  let code = EXIT_OK;
  const onUnreadable = (ids: readonly string[]) => {
    code = EXIT_FAILURE;
    for (const id of ids) stderr.write(`sessiond: ${id}: the server cannot unseal this session\n`);
  };
  const all = { ...query, pageSize: Math.min(limit, PAGE_SIZE) };
  let batch: Session[] = [];
  let count = 0;
  for await (const session of client.listAllSessions(all, { onUnreadable })) {
    batch.push(session);
    if (++count === limit) break;
    if (batch.length < BATCH_SIZE) continue;
    await writePaced(stdout, textOf(batch));
    batch = [];
  }
  if (batch.length > 0) await writePaced(stdout, textOf(batch));
  if (format === "table" && stdout.isTTY) {
    if (count === 0) stderr.write("sessiond: no such session\n");
    if (table.isShortened) {
      stderr.write("sessiond: ids are cut to fit; --ids and --json show them whole\n");
    }
  }
  return code;
}
