import {
  Channel,
  type ChannelInterface,
  type ChannelOptions,
  connectivityState as State,
} from "@grpc/grpc-js";
import { onAbort } from "./cancellation.js";
import { type ClientTls, ConnectionCredentials } from "./connection-credentials.js";

/** Where the servers are, and how to connect. */
export interface ChannelSettings {
  /** At least one. `http:`, `https:` or `dns:`, all the same; `dns:` has TLS if `tls` is there. */
  readonly addresses: readonly URL[];
  readonly tls?: ClientTls | undefined;
  readonly handshakeTimeoutMs: number;
  readonly channelOptions: ChannelOptions;
}

/** Every server that a name has gets calls in turn. */
const ROUND_ROBIN = JSON.stringify({ loadBalancingConfig: [{ round_robin: {} }] });

/**
 * The channels to all addresses, which get calls in turn. An address without a connection gets
 * none while another has one, and connects again meanwhile.
 *
 * We keep a channel for each address, because the lists of grpc-js have IP addresses only, and one
 * name for the certificates of all.
 */
export class Channels {
  readonly #channels: readonly ChannelInterface[];
  #next = 0;
  #ready: Promise<void> | undefined;

  constructor(settings: ChannelSettings) {
    this.#channels = settings.addresses.map((address) => openChannel(address, settings));
  }

  /** A channel for a call. Undefined if none of several has a connection yet. */
  get now(): ChannelInterface | undefined {
    const [only] = this.#channels;
    if (this.#channels.length === 1) return only;
    return this.#inTurn((state) => state === State.READY);
  }

  /** Waits until a channel has a connection, or all have failed to connect. */
  async soon(signal: AbortSignal): Promise<ChannelInterface> {
    signal.throwIfAborted();
    const canceled = Promise.withResolvers<never>();
    const forget = onAbort(signal, () => canceled.reject(signal.reason));
    try {
      for (;;) {
        const channel = this.now ?? this.#ifAllFailed();
        if (channel !== undefined) return channel;
        this.#ready ??= this.#stateChange().finally(() => {
          this.#ready = undefined;
        });
        await Promise.race([this.#ready, canceled.promise]);
      }
    } finally {
      forget();
    }
  }

  close(): void {
    for (const channel of this.#channels) channel.close();
  }

  #ifAllFailed(): ChannelInterface | undefined {
    const hasFailed = (state: State) =>
      state === State.TRANSIENT_FAILURE || state === State.SHUTDOWN;
    const allFailed = this.#channels.every((each) => hasFailed(each.getConnectivityState(true)));
    return allFailed ? this.#inTurn(hasFailed) : undefined;
  }

  #inTurn(fits: (state: State) => boolean): ChannelInterface | undefined {
    for (let tried = 0; tried < this.#channels.length; tried++) {
      const channel = this.#channels[this.#next];
      this.#next = (this.#next + 1) % this.#channels.length;
      if (channel !== undefined && fits(channel.getConnectivityState(true))) return channel;
    }
    return undefined;
  }

  /** Resolves when the state of any channel changes. */
  #stateChange(): Promise<void> {
    return new Promise((resolve) => {
      for (const channel of this.#channels) {
        const state = channel.getConnectivityState(true);
        if (state !== State.SHUTDOWN) {
          channel.watchConnectivityState(state, Number.POSITIVE_INFINITY, () => resolve());
        }
      }
    });
  }
}

function openChannel(address: URL, settings: ChannelSettings): ChannelInterface {
  const { tls, handshakeTimeoutMs } = settings;
  const isDns = address.protocol === "dns:";
  const target = isDns ? address.href : `dns:${address.hostname}:${portOf(address)}`;
  const isSecure = isDns ? tls !== undefined : address.protocol === "https:";
  const host = (isDns ? hostOf(address.pathname) : address.hostname).replace(/^\[|\]$/g, "");
  const credentials = new ConnectionCredentials(
    handshakeTimeoutMs,
    isSecure ? { host, options: tls ?? {} } : undefined,
  );
  return new Channel(target, credentials, {
    ...settings.channelOptions,
    ...(isDns && { "grpc.service_config": ROUND_ROBIN }),
  });
}

function portOf({ port, protocol }: URL): string {
  if (port !== "") return port;
  return protocol === "https:" ? "443" : "80";
}

/** The host in the path of `dns:///host:port`. */
function hostOf(path: string): string {
  return path.slice(1).replace(/:\d+$/, "");
}
