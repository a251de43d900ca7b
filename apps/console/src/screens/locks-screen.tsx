import { useState } from "preact/hooks";
import { toMs } from "../live/row.js";
import { Countdown, Exact } from "../parts/time.js";
import { Field, Found, useLookUp } from "./look-up.js";
import type { ScreenProps } from "./screen-props.js";

/** Whether somebody holds a lock. The contract lists no locks and does not tell who waits. */
export function LocksScreen({ workspace: { calls, live } }: ScreenProps) {
  const [name, setName] = useState("");
  const { found, isBusy, lookUp } = useLookUp(async () => ({
    lock: await calls.locks.getLock({ name }),
    name,
  }));
  const offsetMs = live?.watch.clockOffsetMs ?? 0;
  return (
    <section class="screen">
      <h1>Locks</h1>
      <form class="find" onSubmit={lookUp}>
        <Field id="lock" label="Name" value={name} onInput={setName} />
        <button type="submit" class="primary" disabled={isBusy}>
          Look up
        </button>
      </form>
      <Found
        found={found}
        hint="Look up a lock by its name. The server tells whether it is held, but neither lists locks nor says who holds one or waits for it."
      >
        {({ lock, name: asked }) =>
          lock.held ? (
            <>
              <p class="verdict">
                <bdi>{asked}</bdi> is held.
              </p>
              <dl class="figures">
                <div>
                  <dt>Lease ends unless renewed</dt>
                  <dd>
                    <Countdown ms={toMs(lock.expireTime)} offsetMs={offsetMs} />
                  </dd>
                </div>
                <div>
                  <dt>At</dt>
                  <dd>
                    <Exact ms={toMs(lock.expireTime)} />
                  </dd>
                </div>
                <div>
                  <dt>Fencing token</dt>
                  <dd>{String(lock.fencingToken)}</dd>
                </div>
              </dl>
            </>
          ) : (
            <p class="verdict">
              <bdi>{asked}</bdi> is free.
            </p>
          )
        }
      </Found>
    </section>
  );
}
