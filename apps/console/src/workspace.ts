import type { Operator } from "./access/access.js";
import { type Calls, createCalls } from "./access/calls.js";
import { History } from "./live/history.js";
import { SessionWatch } from "./live/session-watch.js";

/** What follows the sessions while the page is open. */
export interface Live {
  readonly watch: SessionWatch;
  readonly history: History;
}

/** What all screens of one login share. */
export interface Workspace {
  readonly operator: Operator;
  readonly calls: Calls;
  /** Undefined without the permission to read sessions. */
  readonly live: Live | undefined;
}

export function openWorkspace(operator: Operator): Workspace {
  const calls = createCalls(operator.token);
  if (!operator.permissions.has("sessions:read")) return { operator, calls, live: undefined };
  const watch = new SessionWatch(calls);
  return { operator, calls, live: { watch, history: new History(calls, watch) } };
}

export function closeWorkspace({ live }: Workspace): void {
  live?.history.close();
  live?.watch.close();
}
