import { once } from "node:events";
import {
  type ClientReadableStream,
  credentials,
  makeGenericClientConstructor,
  type ServiceError,
} from "@grpc/grpc-js";
import { service } from "grpc-health-check";

interface HealthResponse {
  readonly status: string;
}

interface HealthStub {
  check(
    request: { service: string },
    callback: (error: ServiceError | null, response?: HealthResponse) => void,
  ): void;
  watch(request: { service: string }): ClientReadableStream<HealthResponse>;
  close(): void;
}

/** What a load balancer that watches a server's health hears. */
export interface HealthWatch {
  /** Every status so far, in order. */
  readonly statuses: readonly string[];
  /** Resolves once this many have come. */
  heard(count: number): Promise<void>;
  /** Resolves with the code that the server ended the watch with. */
  readonly ended: Promise<number>;
}

/** A client of gRPC's health service, without any access token. */
export class HealthClient implements Disposable {
  readonly #stub: HealthStub;

  constructor(address: string) {
    const Stub = makeGenericClientConstructor(service, "Health");
    this.#stub = new Stub(address, credentials.createInsecure()) as unknown as HealthStub;
  }

  /** The status of a service, of the whole server by default. Rejects with a `ServiceError`. */
  check(name = ""): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#stub.check({ service: name }, (error, response) => {
        if (error) reject(error);
        else resolve(response?.status ?? "");
      });
    });
  }

  watch(name = ""): HealthWatch {
    const call = this.#stub.watch({ service: name });
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
