import { useState } from "preact/hooks";
import { type Calls, explain } from "../access/calls.js";
import { Notice, outcome } from "../parts/notice.js";

type Target = "one" | "all" | "others";

interface RevokeFormProps {
  readonly calls: Calls;
  readonly userId: string;
  /** The session in hand. Without it, all sessions of the user are revoked. */
  readonly sessionId?: string;
  readonly onDone: () => void;
}

/** Ends one session, all of its user, or all but this one. */
export function RevokeForm(props: RevokeFormProps) {
  const { sessionId } = props;
  const [target, setTarget] = useState<Target>(sessionId === undefined ? "all" : "one");
  const [reason, setReason] = useState("");
  const [isBusy, setBusy] = useState(false);
  const [problem, setProblem] = useState<string | undefined>();
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setProblem(undefined);
    try {
      outcome.value = await revoke(props, target, reason);
      props.onDone();
    } catch (error) {
      setProblem(explain(error));
      setBusy(false);
    }
  };
  const choice = (value: Target, text: string) => (
    <label>
      <input
        type="radio"
        name="target"
        checked={target === value}
        onChange={() => setTarget(value)}
      />{" "}
      {text}
    </label>
  );
  return (
    <form class="revoke" onSubmit={submit}>
      {sessionId !== undefined && (
        <fieldset>
          <legend>Revoke</legend>
          {choice("one", "This session")}
          {choice("all", "All sessions of this user")}
          {choice("others", "All sessions of this user but this one")}
        </fieldset>
      )}
      <label for="reason">Reason, kept with the session and told to watchers</label>
      <input
        id="reason"
        value={reason}
        maxLength={256}
        autocomplete="off"
        onInput={({ currentTarget }) => setReason(currentTarget.value)}
      />
      {problem !== undefined && <Notice kind="problem">{problem}</Notice>}
      <button type="submit" class="danger" disabled={isBusy}>
        Revoke
      </button>
    </form>
  );
}

/** Answers what it has done. */
async function revoke(
  { calls, userId, sessionId }: RevokeFormProps,
  target: Target,
  reason: string,
): Promise<string> {
  if (target === "one" && sessionId !== undefined) {
    const session = { case: "sessionId", value: sessionId } as const;
    const { revoked } = await calls.sessions.revokeSession({ target: session, userId, reason });
    return revoked ? `Revoked one session of ${userId}.` : "The session had ended already.";
  }
  const exceptSessionId = target === "others" ? (sessionId ?? "") : "";
  const { revokedCount: count } = await calls.sessions.revokeUserSessions({
    ...{ userId, exceptSessionId, reason },
  });
  return `Revoked ${count} ${count === 1 ? "session" : "sessions"} of ${userId}.`;
}
