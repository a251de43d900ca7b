import { type SessionClient, SessiondError } from "@sessiond/client";
import { EXIT_OK } from "../command/exit-codes.js";
import { onStopSignals } from "../command/signals.js";
import { terminalWidth } from "../command/terminal-width.js";
import { writePaced } from "../terminal/paced-output.js";
import { jsonLine, printable } from "../terminal/printable.js";
import { Table } from "../terminal/table.js";
import type { CallOf } from "./session-flags.js";
import { EVENT_COLUMNS } from "./session-table.js";
import type { SessionOutputs } from "./sessions-command.js";

/** A healthy server says something every second. */
const STALE_MS = 3_000;

/** Prints changes until a signal comes. The client resumes after a lost connection by itself. */
export async function watchSessions(
  client: SessionClient,
  { userId, json }: CallOf<"watch">,
  { stdout, stderr, colors }: SessionOutputs,
): Promise<number> {
  const end = new AbortController();
  using _ = onStopSignals(
    () => end.abort(),
    () => end.abort(),
  );
  using silence = new SilenceReport((text) => stderr.write(`sessiond: ${text}\n`));
  const table = new Table(EVENT_COLUMNS, { width: terminalWidth(stdout), colors });
  if (!json) await writePaced(stdout, table.lines([]));
  try {
    const options = { signal: end.signal, ...(userId !== undefined && { userId }) };
    for await (const message of client.watchSessions(options)) {
      silence.heard();
      if (message.type === "reset") {
        stderr.write(`sessiond: changes are missing here: ${printable(message.reason)}\n`);
        if (json) await writePaced(stdout, jsonLine({ type: "reset", reason: message.reason }));
      } else if (message.type === "events") {
        const { events } = message;
        await writePaced(stdout, json ? events.map(jsonLine).join("") : table.lines(events));
      }
    }
  } catch (error) {
    if (!end.signal.aborted || !(error instanceof SessiondError)) throw error;
  }
  return EXIT_OK;
}

/** Says once that the watch hears nothing, and once that it hears the server again. */
class SilenceReport implements Disposable {
  readonly #say: (text: string) => void;
  readonly #timer: NodeJS.Timeout;
  #isSilent = false;

  constructor(say: (text: string) => void) {
    this.#say = say;
    this.#timer = setTimeout(() => {
      this.#isSilent = true;
      say("the server is silent; the watch reconnects by itself and says if it missed changes");
    }, STALE_MS);
  }

  heard(): void {
    if (this.#isSilent) this.#say("the server is heard again");
    this.#isSilent = false;
    this.#timer.refresh();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}
