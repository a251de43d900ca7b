import type { Interceptor } from "@connectrpc/connect";
import { type Admission, admittedKey } from "../admission/admission.js";
import { TREATMENTS } from "../admission/priorities.js";
import { callerKey } from "../auth/caller.js";

/** The methods that wait with a bound of their own. */
const WAITING = new Set(
  [...TREATMENTS.values()].filter(({ waits }) => waits).map(({ method }) => method),
);

/**
 * Counts what handlers are busy with, also for callers that have gone: who opens calls and gives
 * them up has as much under way as the handlers still work on. Takes over from the call's place.
 */
export function countWork(admission: Admission): Interceptor {
  return (next) => (request) => {
    const answer = next(request);
    const { contextValues: values, header } = request;
    const caller = values.get(callerKey);
    if (caller === undefined) return answer;
    const admitted = values.get(admittedKey);
    const calls =
      admitted?.knownCalls ?? admission.learn(header.get("authorization") ?? "", caller);
    if (!WAITING.has(request.method)) admission.work(calls, answer);
    admitted?.end();
    return answer;
  };
}
