import type { ContextValues } from "@connectrpc/connect";
import { callerKey } from "../auth/caller.js";
import type { AuditLog } from "./audit-log.js";
import {
  AUDIT_EVENTS,
  type AuditEvent,
  type AuditEventSpec,
  type AuditFields,
} from "./audit-table.js";
import { type LineKey, LineLimit } from "./line-limit.js";
import type { Metrics } from "./metrics.js";
import { withoutTokens } from "./tokens-in-text.js";
import { traceFields } from "./tracing.js";

/** What the audit has of a call. */
export interface AuditedCall {
  readonly values: ContextValues;
  readonly header: Pick<Headers, "get">;
}

/** Records security events. Never fails and never waits. */
export class Audit {
  readonly #log: AuditLog | undefined;
  readonly #limit = new LineLimit();

  /** Without a log, it records nothing. */
  constructor(log: AuditLog | undefined, metrics: Metrics) {
    const dropped = metrics.counter("sessiond_audit_lines_dropped_total", {});
    log?.onDropped(() => dropped.add());
    this.#log = log;
  }

  /** Records an event, and the call that caused it. Refusals beyond the bound are only counted. */
  record<E extends AuditEvent>(event: E, given: AuditFields<E>, call?: AuditedCall): void {
    const { level } = AUDIT_EVENTS[event];
    if (!this.#log?.has(level)) return;
    const fields = fieldsWithoutTokens(given);
    if (!this.#admits(event, fields, call)) return;
    const ids = call && traceFields(call.values, call.header);
    this.#log.write(level, { event, ...callerFields(call), ...fields, ...ids });
  }

  /** Says what was left out since the last minute began. */
  close(): void {
    this.#limit.close();
  }

  #admits(event: AuditEvent, fields: object, call: AuditedCall | undefined): boolean {
    const { level, boundedBy }: AuditEventSpec = AUDIT_EVENTS[event];
    if (boundedBy === undefined) return true;
    const few = Object.fromEntries(
      Object.entries(fields).filter(([name]) => boundedBy.includes(name)),
    );
    const bounded = (summary: object): LineKey => ({
      key: JSON.stringify([event, summary]),
      report: (suppressed: number) => this.#log?.write(level, { event, ...summary, suppressed }),
    });
    return this.#limit.admits(bounded({ ...callerFields(call), ...few }), bounded(few));
  }
}

/** Reasons, keys and ids of users are what callers chose, and may be tokens by mistake. */
function fieldsWithoutTokens(fields: object): object {
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [
      name,
      typeof value === "string" ? withoutTokens(value) : value,
    ]),
  );
}

function callerFields(call: AuditedCall | undefined) {
  const caller = call?.values.get(callerKey);
  return caller && { namespace: caller.namespace, caller: caller.subject, issuer: caller.issuer };
}
