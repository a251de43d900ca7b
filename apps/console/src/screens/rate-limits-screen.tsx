import { durationMs } from "@bufbuild/protobuf/wkt";
import { useState } from "preact/hooks";
import { explain } from "../access/calls.js";
import { toMs } from "../live/row.js";
import { Notice, outcome } from "../parts/notice.js";
import { Countdown } from "../parts/time.js";
import { Field, Found, useLookUp } from "./look-up.js";
import type { ScreenProps } from "./screen-props.js";

/** One key of a rate limit, looked up and reset. To look counts nothing. */
export function RateLimitsScreen({ workspace: { calls } }: ScreenProps) {
  const [policy, setPolicy] = useState("login");
  const [key, setKey] = useState("");
  const [problem, setProblem] = useState<string | undefined>();
  const { found, isBusy, lookUp } = useLookUp(async () => {
    const answer = await calls.rateLimits.getRateLimit({ policy, key });
    return { answer, policy, key };
  });
  const reset = async (of: { readonly policy: string; readonly key: string }) => {
    setProblem(undefined);
    try {
      await calls.rateLimits.resetRateLimit({ policy: of.policy, key: of.key });
      outcome.value = `Forgot all attempts of ${of.key} under ${of.policy}.`;
      await lookUp();
    } catch (error) {
      setProblem(explain(error));
    }
  };
  return (
    <section class="screen">
      <h1>Rate limits</h1>
      <form class="find" onSubmit={lookUp}>
        <Field id="policy" label="Policy" value={policy} onInput={setPolicy} />
        <Field id="key" label="Key" value={key} onInput={setKey} />
        <button type="submit" class="primary" disabled={isBusy}>
          Look up
        </button>
      </form>
      {problem !== undefined && <Notice kind="problem">{problem}</Notice>}
      <Found
        found={found}
        hint="Policies are in SESSIOND_RATE_LIMITS. A key is what the service counts by, such as an address or a user id."
      >
        {({ answer, ...of }) => (
          <>
            <p class="verdict">
              <bdi>{of.key}</bdi>: the next attempt is{" "}
              {answer.allowed ? "allowed" : <strong class="warning">refused</strong>}.
            </p>
            <dl class="figures">
              <div>
                <dt>Left</dt>
                <dd>
                  {answer.remaining} of {answer.limit}
                </dd>
              </div>
              <div>
                <dt>Window</dt>
                <dd>{answer.window && `${durationMs(answer.window) / 1_000} s`}</dd>
              </div>
              <div>
                <dt>All forgotten</dt>
                <dd>
                  <Countdown ms={toMs(answer.resetTime)} offsetMs={0} />
                </dd>
              </div>
            </dl>
            <button type="button" class="danger" onClick={() => void reset(of)}>
              Forget all attempts
            </button>
            <p class="note">
              For a key that names a user. If you reset an address, whoever guesses passwords from
              it may go on.
            </p>
          </>
        )}
      </Found>
    </section>
  );
}
