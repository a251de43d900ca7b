import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { explain } from "../access/calls.js";
import { Notice } from "../parts/notice.js";

/** An answer of the server, or why there is none. */
export interface LookedUp<T> {
  readonly answer?: T;
  readonly problem?: string;
}

/** Asks the server for one thing, when the operator says so. */
export function useLookUp<T>(ask: () => Promise<T>) {
  const [found, setFound] = useState<LookedUp<T>>({});
  const [isBusy, setBusy] = useState(false);
  const lookUp = async (event?: Event) => {
    event?.preventDefault();
    setBusy(true);
    try {
      setFound({ answer: await ask() });
    } catch (error) {
      setFound({ problem: explain(error) });
    }
    setBusy(false);
  };
  return { found, isBusy, lookUp };
}

/** A field of a form, with its label. */
export function Field(props: {
  readonly id: string;
  readonly label: string;
  readonly value: string;
  readonly onInput: (value: string) => void;
}) {
  return (
    <>
      <label for={props.id}>{props.label}</label>
      <input
        id={props.id}
        required
        value={props.value}
        autocomplete="off"
        spellcheck={false}
        onInput={({ currentTarget }) => props.onInput(currentTarget.value)}
      />
    </>
  );
}

/** What was found. */
export function Found<T>(props: {
  readonly found: LookedUp<T>;
  readonly hint: string;
  readonly children: (answer: T) => ComponentChildren;
}) {
  const { answer, problem } = props.found;
  if (problem !== undefined) return <Notice kind="problem">{problem}</Notice>;
  if (answer === undefined) return <Notice kind="empty">{props.hint}</Notice>;
  return <div role="status">{props.children(answer)}</div>;
}
