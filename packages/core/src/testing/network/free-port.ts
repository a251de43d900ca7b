import { randomInt } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";

/** Where everything listens that tests start. */
export const LOOPBACK = "127.0.0.1";
/**
 * Below the ports that Linux, macOS and Windows give to outgoing connections:
 * one of those could take the port of a server that is down for a while.
 */
const MIN_PORT = 10_000;
const MAX_PORT = 32_767;
/** Another process may take a port between its choice and the start. */
const MAX_STARTS = 5;
const MAX_PORTS_TRIED = 100;

/** Calls `start`, and again if the free port it chose was taken before it could listen. */
export async function retryTakenPort<T>(start: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await start();
    } catch (error) {
      const portTaken = error instanceof Error && error.message.includes("Address already in use");
      if (!portTaken || attempt === MAX_STARTS) throw error;
    }
  }
}

/** A port on which nobody listens now; somebody may before you do. */
export async function freePort(): Promise<number> {
  for (let attempt = 1; attempt <= MAX_PORTS_TRIED; attempt++) {
    const port = randomInt(MIN_PORT, MAX_PORT + 1);
    if (await isFree(port)) return port;
  }
  throw new Error(`none of ${MAX_PORTS_TRIED} ports was free`);
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer().listen(port, LOOPBACK);
  try {
    await once(server, "listening");
  } catch {
    return false;
  }
  server.close();
  await once(server, "close");
  return true;
}
