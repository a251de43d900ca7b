import type { ComponentChildren } from "preact";
import { Store, useStore } from "../store.js";

/** What the last action has done, for eyes and for screen readers. */
export const outcome = new Store("");

export function Outcome() {
  const text = useStore(outcome);
  return (
    <p class="outcome" role="status">
      {text}
    </p>
  );
}

/** Says what is missing or wrong, and what to do about it. */
export function Notice(props: {
  readonly kind: "empty" | "problem";
  readonly children: ComponentChildren;
}) {
  return (
    <div class={`notice ${props.kind}`} role={props.kind === "problem" ? "alert" : undefined}>
      {props.children}
    </div>
  );
}
