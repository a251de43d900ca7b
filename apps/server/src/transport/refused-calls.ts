import type { ServerHttp2Stream } from "node:http2";
import { overloaded } from "@sessiond/core";
import type { Logger } from "pino";
import { type Admission, type Admitted, Refused } from "../admission/admission.js";
import type { PortMetrics } from "../observability/rpc-metrics.js";
import { toConnectError } from "../services/rpc-error.js";
import { type ErrorAnswer, errorAnswer, writeAnswer } from "./error-answer.js";
import type { Request, Response } from "./http-messages.js";
import { refuseStream } from "./trailers-only.js";

const MESSAGES: Readonly<Record<Refused["why"], string>> = {
  in_flight: "too many calls are under way on this server",
  caller_in_flight: "too many calls of this caller are under way on this server",
  caller_quota: "this caller has used up its quota of calls to this server",
};
/** Delays differ by this much at least, so that there are about fifty answers of each kind. */
const DELAY_STEP = 1.1;
const LOG_INTERVAL_MS = 1_000;

/** Who calls. */
interface Caller {
  /** Keeps the call's place until a handler has it. Gives it back if the request stalls or ends before. */
  hold(admitted: Admitted): void;
}

/**
 * Answers the calls of one port that are not admitted, in their protocol and before anything of them
 * is read, and counts them. The log has one line a second for all of them.
 */
export class RefusedCalls {
  readonly #admission: Admission;
  readonly #metrics: PortMetrics;
  readonly #logger: Logger;
  readonly #answers = new Map<string, ErrorAnswer>();
  #unlogged = 0;
  #loggedMs = Number.NEGATIVE_INFINITY;

  constructor(options: {
    readonly admission: Admission;
    readonly metrics: PortMetrics;
    readonly logger: Logger;
  }) {
    this.#admission = options.admission;
    this.#metrics = options.metrics;
    this.#logger = options.logger;
  }

  /** Answers a call on the gRPC port that may not be served. Answers whether it has. */
  takeOver(
    caller: Caller,
    stream: ServerHttp2Stream,
    path: string,
    authorization: string,
  ): boolean {
    const entry = this.#admission.enter(path, authorization);
    if (entry instanceof Refused) {
      const takeBack = this.#send(entry, ({ grpcHeaders }) => refuseStream(stream, grpcHeaders));
      stream.once("close", takeBack);
      return true;
    }
    if (entry !== undefined) caller.hold(entry);
    return false;
  }

  /** The same on the HTTP port, for all protocols that it speaks. */
  takeOverHttp(caller: Caller, request: Request, response: Response, path: string): boolean {
    const entry = this.#admission.enter(path, request.headers.authorization ?? "");
    if (entry instanceof Refused) {
      const takeBack = this.#send(entry, (answer) => {
        if (!response.writableEnded) writeAnswer(request, response, answer);
      });
      response.once("close", takeBack);
      return true;
    }
    if (entry !== undefined) caller.hold(entry);
    return false;
  }

  /** Sends the refusal of a stranger's call, now or in its turn. Answers a function that takes it back. */
  pace(send: () => void): () => void {
    return this.#admission.pace.run(send);
  }

  #send(refused: Refused, write: (answer: ErrorAnswer) => void): () => void {
    const answer = this.#answerTo(refused);
    const startMs = performance.now();
    this.#metrics.refused(answer.error.cause);
    this.#log(refused, startMs);
    return this.#admission.pace.run(() => {
      this.#metrics.of(refused.treatment.method).ended(answer.error.code, startMs);
      write(answer);
    });
  }

  #answerTo({ why, retryAfterMs }: Refused): ErrorAnswer {
    const step = Math.ceil(Math.log(retryAfterMs) / Math.log(DELAY_STEP));
    const key = `${why} ${step}`;
    const known = this.#answers.get(key);
    if (known !== undefined) return known;
    const cause = overloaded(why, MESSAGES[why], { retryAfterMs: DELAY_STEP ** step });
    const answer = errorAnswer(toConnectError(cause));
    this.#answers.set(key, answer);
    return answer;
  }

  #log({ why }: Refused, nowMs: number): void {
    this.#unlogged++;
    if (nowMs < this.#loggedMs + LOG_INTERVAL_MS) return;
    const { inFlight, limit } = this.#admission;
    const fields = { refused: this.#unlogged, reason: why, in_flight: inFlight, limit };
    this.#logger.warn(fields, "too many calls");
    this.#unlogged = 0;
    this.#loggedMs = nowMs;
  }
}
