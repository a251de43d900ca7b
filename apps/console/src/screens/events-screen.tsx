import { type SessionEvent, SessionEventType } from "@sessiond/proto/sessiond/v1/session_service";
import { useMemo } from "preact/hooks";
import { toMs } from "../live/row.js";
import { Notice } from "../parts/notice.js";
import { hrefOf } from "../parts/route.js";
import { Ago } from "../parts/time.js";
import { type Column, VirtualRows } from "../parts/virtual-rows.js";
import { useStore } from "../store.js";
import type { Live } from "../workspace.js";
import { LiveBadge } from "./live-badge.js";
import type { ScreenProps } from "./screen-props.js";

/** For people. Events of newer servers have a number. */
const NAMES: Readonly<Record<number, string>> = {
  [SessionEventType.CREATED]: "created",
  [SessionEventType.UPDATED]: "updated",
  [SessionEventType.TOKEN_ROTATED]: "token rotated",
  [SessionEventType.REVOKED]: "revoked",
  [SessionEventType.EVICTED]: "evicted",
  [SessionEventType.TOKEN_REUSED]: "replaced token used",
};

/** The audit of sessions: every change, and who made it, as it comes. */
export function EventsScreen({ workspace: { live } }: ScreenProps) {
  return live && <Events live={live} />;
}

function Events({ live: { watch, history } }: { readonly live: Live }) {
  const events = useStore(history.events);
  const rows = useMemo(() => events.map((event) => ({ id: idOf(event), event })), [events]);
  const { clockOffsetMs } = watch;
  const columns = useMemo(() => columnsOf(clockOffsetMs), [clockOffsetMs]);
  return (
    <section class="screen events">
      <div class="bar">
        <h1>Events</h1>
        <span class="count">{rows.length.toLocaleString("en")} since the page was opened</span>
        <LiveBadge watch={watch} />
      </div>
      {rows.length === 0 ? (
        <Notice kind="empty">
          <p>Nothing has happened since the page was opened. Changes appear here by themselves.</p>
          <p>What happened before, and refused calls, are in the server's audit log.</p>
        </Notice>
      ) : (
        <VirtualRows
          label="Events"
          columns={columns}
          rows={rows}
          onOpen={({ event }) => {
            location.hash = hrefOf("sessions", event.userId);
          }}
        />
      )}
    </section>
  );
}

interface Row {
  readonly id: string;
  readonly event: SessionEvent;
}

/** `offsetMs`: how far the server's clock is ahead. */
function columnsOf(offsetMs: number): readonly Column<Row>[] {
  return [
    { title: "What", name: "what", cell: ({ event: { type } }) => <What type={type} /> },
    { title: "User", name: "user", cell: ({ event }) => <bdi>{event.userId}</bdi> },
    { title: "By", name: "by", cell: ({ event }) => <bdi>{event.changedBy || "–"}</bdi> },
    { title: "Reason", name: "reason", cell: ({ event }) => <bdi>{event.reason || "–"}</bdi> },
    {
      ...{ title: "When", name: "when" },
      cell: ({ event }) => <Ago ms={toMs(event.time)} offsetMs={offsetMs} />,
    },
  ];
}

function What({ type }: { readonly type: SessionEventType }) {
  const isWarning = type === SessionEventType.TOKEN_REUSED;
  return <span class={isWarning ? "warning" : undefined}>{NAMES[type] ?? `event ${type}`}</span>;
}

/** A reused token changes no version, so its time belongs to the id. */
function idOf({ sessionId, version, type, time }: SessionEvent): string {
  return `${sessionId}-${version}-${type}-${toMs(time)}`;
}
