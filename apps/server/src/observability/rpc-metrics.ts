import type { DescMethod } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { SessiondError } from "@sessiond/core";
import { TOKEN_REFUSALS } from "../auth/token-refusals.js";
import { type GrpcCode, REFUSED_STATUSES, SHED_REASONS } from "./metric-table.js";
import type { Metrics } from "./metrics.js";
import type { Counter, Histogram } from "./series.js";

/** Which calls a method's metrics are about. */
export interface RpcName {
  readonly type: "unary" | "client_stream" | "server_stream" | "bidi_stream";
  readonly service: string;
  readonly method: string;
}

const TYPES = {
  unary: "unary",
  client_streaming: "client_stream",
  server_streaming: "server_stream",
  bidi_streaming: "bidi_stream",
} as const;

/** The metrics of the calls of one method on one port. */
export class RpcMetrics {
  readonly #metrics: Metrics;
  readonly #labels;
  readonly #seconds: Histogram;
  readonly #handled = new Map<number, Counter>();

  constructor(metrics: Metrics, port: "grpc" | "http", { type, service, method }: RpcName) {
    this.#metrics = metrics;
    this.#labels = { grpc_type: type, grpc_service: service, grpc_method: method, port };
    this.#seconds = metrics.histogram("grpc_server_handling_seconds", this.#labels);
  }

  /** Counts a call that has ended with a code, 0 for OK. `startMs` is of the monotonic clock. */
  ended(code: number, startMs: number): void {
    let handled = this.#handled.get(code);
    if (handled === undefined) {
      const grpc_code = (code === 0 ? "OK" : (Code[code] ?? "Unknown")) as GrpcCode;
      handled = this.#metrics.counter("grpc_server_handled_total", { ...this.#labels, grpc_code });
      this.#handled.set(code, handled);
    }
    handled.add();
    this.#seconds.observeMs(performance.now() - startMs);
  }
}

/** The metrics of all calls on one port. */
export class PortMetrics {
  readonly #metrics: Metrics;
  readonly #port: "grpc" | "http";
  readonly #methods = new Map<DescMethod, RpcMetrics>();

  constructor(metrics: Metrics, port: "grpc" | "http") {
    this.#metrics = metrics;
    this.#port = port;
    // So that a rate shows the first refusal, too.
    for (const reason of SHED_REASONS) {
      metrics.counter("sessiond_shed_total", { reason });
    }
    for (const status of REFUSED_STATUSES) {
      metrics.counter("sessiond_http_refused_total", { status });
    }
    for (const reason of TOKEN_REFUSALS) {
      metrics.counter("sessiond_access_tokens_refused_total", { reason });
    }
  }

  /** The metrics of a method of the contract. */
  of(method: DescMethod): RpcMetrics {
    const known = this.#methods.get(method);
    if (known !== undefined) return known;
    const { methodKind, parent, name } = method;
    const made = this.named({ type: TYPES[methodKind], service: parent.typeName, method: name });
    this.#methods.set(method, made);
    return made;
  }

  /** The metrics of any method. The caller bounds how many there are. */
  named(name: RpcName): RpcMetrics {
    return new RpcMetrics(this.#metrics, this.#port, name);
  }

  /** Counts a request of HTTP that became no call, by the status of its answer. */
  refusedRequest(answered: number): void {
    const status = REFUSED_STATUSES.find((known) => known === `${answered}`);
    if (status) this.#metrics.counter("sessiond_http_refused_total", { status }).add();
  }

  /** Counts why a call was refused, if its error is one of those that have a reason here. */
  refused(cause: unknown): void {
    if (!(cause instanceof SessiondError)) return;
    const { reason, detail } = cause;
    if (reason === "OVERLOADED") {
      const what = SHED_REASONS.find((known) => known === detail);
      if (what) this.#metrics.counter("sessiond_shed_total", { reason: what }).add();
    }
    if (reason === "UNAUTHENTICATED") {
      const why = TOKEN_REFUSALS.find((known) => known === detail);
      if (why) this.#metrics.counter("sessiond_access_tokens_refused_total", { reason: why }).add();
    }
  }
}
