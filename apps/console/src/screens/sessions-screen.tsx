import type { Session } from "@sessiond/proto/sessiond/v1/session";
import { useEffect, useMemo, useState } from "preact/hooks";
import { type Row, stateOf } from "../live/row.js";
import { type ListState, MAX_ROWS, SessionList } from "../live/session-list.js";
import { Modal } from "../parts/modal.js";
import { Notice } from "../parts/notice.js";
import { now } from "../parts/now.js";
import { hrefOf } from "../parts/route.js";
import { Ago, Countdown } from "../parts/time.js";
import { type Column, VirtualRows } from "../parts/virtual-rows.js";
import { useStore } from "../store.js";
import type { Live, Workspace } from "../workspace.js";
import { LiveBadge } from "./live-badge.js";
import { RevokeForm } from "./revoke-form.js";
import type { ScreenProps } from "./screen-props.js";
import { SessionDetails } from "./session-details.js";

/** The sessions of all users, or of the one that the address names. */
export function SessionsScreen({ workspace, subject }: ScreenProps) {
  const { live } = workspace;
  return live && <Sessions workspace={workspace} live={live} userId={subject} />;
}

function Sessions(props: {
  readonly workspace: Workspace;
  readonly live: Live;
  readonly userId: string;
}) {
  const { workspace, live, userId } = props;
  const [showEnded, setShowEnded] = useState(false);
  const [openId, setOpenId] = useState<string | undefined>();
  const list = useMemo(
    () => new SessionList(workspace.calls, live.watch, { userId, showEnded }),
    [workspace, live, userId, showEnded],
  );
  useEffect(() => () => list.close(), [list]);
  const state = useStore(list.state);
  const { rows, isLoading, problem } = state;
  const { clockOffsetMs } = live.watch;
  const columns = useMemo(() => columnsOf(clockOffsetMs), [clockOffsetMs]);
  const close = () => setOpenId(undefined);
  return (
    <section class="screen">
      <FindUser userId={userId} />
      <div class="bar">
        <Heading userId={userId} />
        <span class="count">
          {rows.length.toLocaleString("en")} {isLoading ? "so far" : "shown"}
        </span>
        <LiveBadge watch={live.watch} />
        {userId !== "" && (
          <label>
            <input type="checkbox" checked={showEnded} onChange={() => setShowEnded(!showEnded)} />{" "}
            Ended ones, too
          </label>
        )}
        {userId !== "" && rows.length > 0 && <RevokeAll workspace={workspace} userId={userId} />}
      </div>
      <Notices state={state} onRetry={() => void list.load()} />
      {rows.length === 0 && problem === undefined ? (
        <Empty isLoading={isLoading} userId={userId} />
      ) : (
        <VirtualRows
          label="Sessions"
          columns={columns}
          rows={rows}
          onOpen={({ id }) => setOpenId(id)}
          onSeen={(seen) => list.refresh(seen.map(({ id }) => id))}
        />
      )}
      {openId !== undefined && (
        <Modal title="Session" onClose={close}>
          <SessionDetails
            row={rows.find(({ id }) => id === openId)}
            workspace={workspace}
            offsetMs={clockOffsetMs}
            onDone={close}
          />
        </Modal>
      )}
    </section>
  );
}

function Heading({ userId }: { readonly userId: string }) {
  if (userId === "") return <h1>All sessions</h1>;
  return (
    <h1>
      Sessions of <bdi>{userId}</bdi>
    </h1>
  );
}

/** What the list lacks, and what to do about it. */
function Notices(props: { readonly state: ListState; readonly onRetry: () => void }) {
  const { isCut, isLoading, unreadable, problem } = props.state;
  return (
    <>
      {isCut && !isLoading && (
        <Notice kind="empty">
          These are the newest {MAX_ROWS.toLocaleString("en")} sessions. Find a user to see the
          others.
        </Notice>
      )}
      {unreadable > 0 && (
        <Notice kind="problem">
          {unreadable} more sessions cannot be unsealed: the keyring lacks their keys.
        </Notice>
      )}
      {problem !== undefined && (
        <Notice kind="problem">
          <p>{problem}</p>
          <button type="button" onClick={props.onRetry}>
            Try again
          </button>
        </Notice>
      )}
    </>
  );
}

function RevokeAll(props: { readonly workspace: Workspace; readonly userId: string }) {
  const { workspace, userId } = props;
  const [isOpen, setOpen] = useState(false);
  const close = () => setOpen(false);
  if (!workspace.operator.permissions.has("sessions:delete")) return null;
  return (
    <>
      <button type="button" class="danger" onClick={() => setOpen(true)}>
        Revoke all…
      </button>
      {isOpen && (
        <Modal title="Revoke all sessions" onClose={close}>
          <p>
            Ends every active session of <bdi>{userId}</bdi>.
          </p>
          <RevokeForm calls={workspace.calls} userId={userId} onDone={close} />
        </Modal>
      )}
    </>
  );
}

function FindUser({ userId }: { readonly userId: string }) {
  const [text, setText] = useState(userId);
  const find = (event: Event) => {
    event.preventDefault();
    location.hash = hrefOf("sessions", text);
  };
  return (
    <search>
      <form class="find" onSubmit={find}>
        <label for="user">User id</label>
        <input
          id="user"
          type="search"
          value={text}
          placeholder="all users"
          autocomplete="off"
          spellcheck={false}
          onInput={({ currentTarget }) => setText(currentTarget.value)}
        />
        <button type="submit" class="primary">
          Find
        </button>
      </form>
    </search>
  );
}

function Empty(props: { readonly isLoading: boolean; readonly userId: string }) {
  if (props.isLoading) return <Notice kind="empty">Loading…</Notice>;
  if (props.userId === "") {
    return (
      <Notice kind="empty">There is no session yet. New ones appear here by themselves.</Notice>
    );
  }
  return (
    <Notice kind="empty">
      <p>
        <bdi>{props.userId}</bdi> has no active session.
      </p>
      <p>
        User ids are compared letter by letter: look for capitals and spaces. Sessions that ended a
        short while ago are listed with “Ended ones, too”.
      </p>
    </Notice>
  );
}

/** `offsetMs`: how far the server's clock is ahead. */
function columnsOf(offsetMs: number): readonly Column<Row>[] {
  return [
    { title: "User", name: "user", cell: ({ session }) => <User session={session} /> },
    {
      ...{ title: "Device", name: "device" },
      cell: ({ session: { client } }) => <bdi>{client?.device || client?.userAgent || "–"}</bdi>,
      hint: ({ session }) => session.client?.userAgent,
    },
    { title: "Address", name: "address", cell: ({ session }) => session.client?.ip || "–" },
    {
      ...{ title: "Created", name: "created" },
      cell: ({ createMs }) => <Ago ms={createMs} offsetMs={offsetMs} />,
    },
    {
      ...{ title: "Last active", name: "accessed" },
      cell: ({ lastAccessMs }) => <Ago ms={lastAccessMs} offsetMs={offsetMs} />,
    },
    {
      ...{ title: "Ends", name: "deadline" },
      cell: ({ expireMs }) => <Countdown ms={expireMs} offsetMs={offsetMs} />,
    },
    { title: "State", name: "state", cell: (row) => <State row={row} offsetMs={offsetMs} /> },
  ];
}

function User({ session: { userId, displayName } }: { readonly session: Session }) {
  return (
    <>
      <bdi>{userId}</bdi>
      {displayName !== "" && displayName !== userId && <small dir="auto">{displayName}</small>}
    </>
  );
}

function State({ row, offsetMs }: { readonly row: Row; readonly offsetMs: number }) {
  const state = stateOf(row, useStore(now) + offsetMs);
  return <span class={`state-${state}`}>{state}</span>;
}
