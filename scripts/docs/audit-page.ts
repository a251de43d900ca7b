import { AUDIT_EVENTS, CALL_FIELDS } from "../../apps/server/dist/observability/audit-table.js";
import { MAX_LINES } from "../../apps/server/dist/observability/line-limit.js";
import { blocks, table, wrap } from "./markdown.ts";

const INTRODUCTION = `\
<!-- \`pnpm generate\` writes this page from the server's table of security events. -->

# Audit

The audit says who did what to sessions, and who was refused. It is a stream of its own beside the log:
JSON, one line for each event, the time first. It goes to stdout, to stderr or to a file
([SESSIOND_AUDIT_LOG](configuration.md#sessiond_audit_log)). Each line has \`"log":"audit"\`, which no line of
the log has.

\`\`\`json
{"time":"2026-01-31T12:00:00.000Z","level":"info","log":"audit","event":"session.revoked","namespace":"","caller":"support","issuer":"https://login.example.com","session_id":"cae29284561d483684f0d70a2490cba44aec1e5133ab75b78f0083dfa2f49edc","user_id":"ann","version":3,"reason":"laptop stolen"}
\`\`\`

No line has a token, a secret, session data or the id of a lock. Lines do have user ids, the reasons of
revocations and the keys of rate limits, as the callers sent them: keep the audit where personal data may
be kept.

The server that makes a change writes its line as soon as the store has made it. The same change is an
event in WatchSessions, with the caller as \`changed_by\`. Three things differ:

- What a server repeats after a failover is an event without a caller, and has no second line.
- A call that failed with \`STORE_UNAVAILABLE\` may have made its change. A change that got no answer has an
  event and no line.
- Expiry is neither an event nor a line.

A session token that proves nothing has no line: nearly all of them are tokens of sessions that ended,
which every browser goes on to send, and nobody guesses 256 bits. A replaced token is
\`session.token_reused\`.`;

const BOUNDS = `\
## Bounds and losses

Calls that are refused cannot fill the disk: each event marked as bounded has at most ${MAX_LINES} lines a minute
for each caller and reason, permission or policy. At the end of a minute with more, a line with
\`suppressed\` says how many were left out. Changes that were made are never left out.

No call waits for the audit. Lines wait in a queue of 8 MiB for a slow or full disk. Lines beyond it are
lost: \`sessiond_audit_lines_dropped_total\` counts them, and the log says when writing failed and when it
went on. A server that is killed loses the lines of its last tenth of a second.

## Shipping it

On stdout, have the collector route lines with \`"log":"audit"\` to a store of their own. As a file, give
it to logrotate and have SIGHUP sent, which also reads keyring and auth file again:

\`\`\`
/var/log/sessiond/audit.log {
  daily
  rotate 90
  nocreate
  postrotate
    systemctl kill --signal=HUP sessiond
  endscript
}
\`\`\``;

/** The page about every security event. */
export function auditPage(): string {
  const sections = Object.entries(AUDIT_EVENTS).map(([name, spec]) => {
    const { level, help, fields } = spec;
    const bounded = "boundedBy" in spec ? ", bounded" : "";
    return blocks(`### ${name}`, wrap(`Level \`${level}\`${bounded}. ${help}`), fieldTable(fields));
  });
  const calls = "Lines about a call have these fields besides those of their event:";
  const events = ["## Every event", wrap(calls), fieldTable(CALL_FIELDS), ...sections];
  return `${blocks(INTRODUCTION, ...events, BOUNDS)}\n`;
}

function fieldTable(fields: Readonly<Record<string, string>>): string {
  const rows = Object.entries(fields).map(([field, meaning]) => [`\`${field}\``, meaning]);
  return rows.length > 0 ? table([["field", ""], ...rows]) : "";
}
