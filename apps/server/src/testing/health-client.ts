import { once } from "node:events";
import { credentials, makeGenericClientConstructor, type ServiceError } from "@grpc/grpc-js";
import { service } from "grpc-health-check";

interface HealthResponse {
  readonly status: string;
}

/** What a load balancer hears that watches a server's health. */
export interface HealthWatch {
  /** Every status so far, in order. */
  readonly statuses: readonly string[];
  /** Resolves once there are this many statuses. */
  heard(count: number): Promise<void>;
  /** Resolves with the code with which the server ended the watch. */
  readonly ended: Promise<number>;
}

/** A client of gRPC's health service, without any access token. */
export class HealthClient implements Disposable {
  readonly #stub;

  constructor(address: string) {
    const Stub = makeGenericClientConstructor(service, "Health");
    this.#stub = new Stub(address, credentials.createInsecure());
  }

  /** The status of a service, by default of the whole server. Rejects with a `ServiceError`. */
  check(name = ""): Promise<string> {
    return new Promise((resolve, reject) => {
      const done = (error: ServiceError | null, response?: HealthResponse) =>
        error ? reject(error) : resolve(response?.status ?? "");
      this.#stub["check"]?.({ service: name }, done);
    });
  }

  watch(name = ""): HealthWatch {
    const call = this.#stub["watch"]?.({ service: name });
    const statuses: string[] = [];
    call.on("data", ({ status }: HealthResponse) => statuses.push(status));
    const ended = new Promise<number>((resolve) => {
      call.on("error", ({ code }: ServiceError) => resolve(code));
    });
    const heard = async (count: number) => {
      while (statuses.length < count) await once(call, "data");
    };
    return { statuses, heard, ended };
  }

  [Symbol.dispose](): void {
    this.#stub.close();
  }
}
