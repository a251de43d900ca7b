import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** A server behind a balancer. */
export interface Backend {
  readonly port: number;
  /** Answers 200 while the server takes new connections. */
  readonly readyUrl: string;
}

const CHECK_INTERVAL_MS = 50;
const CHECK_TIMEOUT_MS = 2_000;
/** For how long a new connection waits for a server that takes it. */
const MAX_WAIT_MS = 10_000;

/**
 * A load balancer of TCP connections, as a Service of Kubernetes is one: it sends each new connection
 * to a server that is ready, and leaves open connections alone.
 */
export class TcpBalancer implements AsyncDisposable {
  readonly #server = createServer((client) => void this.#relay(client));
  readonly #backends = new Map<Backend, { isReady: boolean }>();
  readonly #sockets = new Set<Socket>();
  #turn = 0;

  static async start(): Promise<TcpBalancer> {
    const balancer = new TcpBalancer();
    balancer.#server.listen(0, "127.0.0.1");
    await once(balancer.#server, "listening");
    return balancer;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Sends connections to the server as soon as it is ready. Resolves then. */
  async add(backend: Backend): Promise<void> {
    const state = { isReady: false };
    this.#backends.set(backend, state);
    const ready = Promise.withResolvers<void>();
    void this.#check(backend, state, ready.resolve);
    await ready.promise;
  }

  remove(backend: Backend): void {
    this.#backends.delete(backend);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#backends.clear();
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }

  async #check(backend: Backend, state: { isReady: boolean }, onReady: () => void): Promise<void> {
    while (this.#backends.has(backend)) {
      const signal = AbortSignal.timeout(CHECK_TIMEOUT_MS);
      state.isReady = await fetch(backend.readyUrl, { signal }).then(
        ({ ok }) => ok,
        () => false,
      );
      if (state.isReady) onReady();
      await sleep(CHECK_INTERVAL_MS);
    }
  }

  async #relay(client: Socket): Promise<void> {
    this.#keep(client);
    const endMs = performance.now() + MAX_WAIT_MS;
    while (performance.now() < endMs && !client.destroyed) {
      const backend = this.#next();
      const server = backend && (await this.#connectTo(backend));
      if (server !== undefined) {
        client.pipe(server).pipe(client);
        client.on("close", () => server.destroy());
        server.on("close", () => client.destroy());
        return;
      }
      await sleep(CHECK_INTERVAL_MS);
    }
    client.destroy();
  }

  #next(): Backend | undefined {
    const ready = [...this.#backends].filter(([, { isReady }]) => isReady);
    return ready[this.#turn++ % ready.length]?.[0];
  }

  async #connectTo({ port }: Backend): Promise<Socket | undefined> {
    const socket = connect(port, "127.0.0.1");
    this.#keep(socket);
    return once(socket, "connect").then(
      () => socket,
      () => undefined,
    );
  }

  /** A broken connection ends with its other half. */
  #keep(socket: Socket): void {
    this.#sockets.add(socket.setNoDelay());
    socket.on("error", () => {}).on("close", () => this.#sockets.delete(socket));
  }
}
