import type { ComponentChildren } from "preact";
import { type Row, stateOf, toMs } from "../live/row.js";
import { Notice } from "../parts/notice.js";
import { now } from "../parts/now.js";
import { hrefOf } from "../parts/route.js";
import { Countdown, Exact } from "../parts/time.js";
import { useStore } from "../store.js";
import type { Workspace } from "../workspace.js";
import { RevokeForm } from "./revoke-form.js";

/** All that the server tells of a session, and how to end it. */
export function SessionDetails(props: {
  /** Undefined once it has ended. */
  readonly row: Row | undefined;
  readonly workspace: Workspace;
  readonly offsetMs: number;
  readonly onDone: () => void;
}) {
  const { row, workspace, offsetMs } = props;
  const nowMs = useStore(now) + offsetMs;
  if (row === undefined) return <Notice kind="empty">This session has ended.</Notice>;
  const { session } = row;
  const state = stateOf(row, nowMs);
  const mayRevoke = workspace.operator.permissions.has("sessions:delete");
  return (
    <>
      <Facts row={row} state={state} offsetMs={offsetMs} onDone={props.onDone} />
      {state === "active" && mayRevoke && (
        <RevokeForm
          calls={workspace.calls}
          userId={session.userId}
          sessionId={session.id}
          onDone={props.onDone}
        />
      )}
      {!mayRevoke && (
        <Notice kind="empty">
          To revoke it, your access token needs <code>sessions:delete</code>.
        </Notice>
      )}
    </>
  );
}

function Facts(props: {
  readonly row: Row;
  readonly state: string;
  readonly offsetMs: number;
  readonly onDone: () => void;
}) {
  const { session, createMs, lastAccessMs, expireMs } = props.row;
  const { client, data, roles } = session;
  return (
    <dl class="facts">
      <Fact name="User">
        <a href={hrefOf("sessions", session.userId)} onClick={props.onDone}>
          <bdi>{session.userId}</bdi>
        </a>
      </Fact>
      <Fact name="Name" text={session.displayName} />
      <Fact name="State">
        <span class={`state-${props.state}`}>{props.state}</span>
        {session.revokeReason !== "" && (
          <>
            {": "}
            <bdi>{session.revokeReason}</bdi>
          </>
        )}
      </Fact>
      <Fact name="Roles">
        {roles.length === 0
          ? "–"
          : roles.map((role) => (
              <bdi key={role} class="chip">
                {role}
              </bdi>
            ))}
      </Fact>
      <Fact name="Device" text={client?.device} />
      <Fact name="User agent" text={client?.userAgent} />
      <Fact name="Address" text={client?.ip} />
      <Fact name="Created">
        <Exact ms={createMs} />
      </Fact>
      <Fact name="Logged in">
        <Exact ms={toMs(session.authenticateTime)} />
      </Fact>
      <Fact name="Last active">
        <Exact ms={lastAccessMs} />
      </Fact>
      <Fact name="Ends if idle">
        <Exact ms={expireMs} />
        {props.state === "active" && (
          <>
            {", "}
            <Countdown ms={expireMs} offsetMs={props.offsetMs} />
          </>
        )}
      </Fact>
      <Fact name="Ends for good">
        <Exact ms={toMs(session.absoluteExpireTime)} />
      </Fact>
      <Fact name="Session id">
        <code>{session.id}</code>
      </Fact>
      <Fact name="Data">
        {data === undefined || Object.keys(data).length === 0 ? (
          "–"
        ) : (
          <details>
            <summary>Keys: {Object.keys(data).join(", ")}</summary>
            <pre>{JSON.stringify(data, undefined, 2)}</pre>
          </details>
        )}
      </Fact>
    </dl>
  );
}

function Fact(props: {
  readonly name: string;
  readonly text?: string | undefined;
  readonly children?: ComponentChildren;
}) {
  return (
    <div>
      <dt>{props.name}</dt>
      <dd>{props.children ?? <bdi>{props.text || "–"}</bdi>}</dd>
    </div>
  );
}
