import type { Socket } from "node:net";
import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";
import { afterAll, beforeAll, describe, test } from "vitest";
import {
  type AttackedServer,
  beginHttp2,
  expectClosed,
  floodFrom,
  grpcHeaders,
  PORTS,
  startAttackedServer,
  withstand,
} from "../../testing/attack.js";
import { cancel, frame } from "../../testing/http2-frames.js";
import { bearer, pathOf } from "../../testing/protocols.js";

const COUNT = pathOf(SessionService.method.countSessions);
/** The first bytes of a ClientHello (RFC 8446, 5.1): a record of 512 bytes follows, or does not. */
const HALF_HELLO = Buffer.from([22, 3, 1, 2, 0, 1, 0, 1]);
const STREAMS = Array.from({ length: 500 }, (_, i) => 2 * i + 1);
const RESETS = Buffer.concat(STREAMS.flatMap((s) => [grpcHeaders(s, COUNT), cancel(s)]));

let server: AttackedServer;
beforeAll(async () => {
  server = await startAttackedServer({ tls: true });
});
afterAll(() => server[Symbol.asyncDispose]());

describe.concurrent.each(PORTS)(
  "over TLS, on the %s port a connection is closed in time",
  (port) => {
    test.each<[string, () => Socket]>([
      ["that begins no handshake", () => server.openTcp(port)],
      [
        "that stops in the middle of one",
        () => {
          const socket = server.openTcp(port);
          socket.write(HALF_HELLO);
          return socket;
        },
      ],
      ["that says nothing after it", () => server.open(port)],
      [
        "whose HEADERS do not end",
        () => {
          const socket = server.open(port);
          beginHttp2(socket);
          socket.write(grpcHeaders(1, COUNT, { flags: 0 }));
          return socket;
        },
      ],
      [
        "whose call has no body",
        () => {
          const socket = server.open(port);
          beginHttp2(socket);
          socket.write(grpcHeaders(1, COUNT, { headers: bearer("forged") }));
          return socket;
        },
      ],
    ])("%s", (_, open) => expectClosed(open()));

    test("whose call has its answer, and whose body has no end", async () => {
      const socket = server.open(port);
      beginHttp2(socket);
      socket.write(grpcHeaders(1, COUNT, { headers: bearer("forged") }));
      const part = frame("DATA", { stream: 1, payload: Buffer.alloc(16_000) });
      const sending = setInterval(() => socket.writable && socket.write(part), 10);
      await expectClosed(socket).finally(() => clearInterval(sending));
    });
  },
);

test.each(PORTS)("over TLS, calls that are reset at once do not hold up the %s port", (port) =>
  withstand(server, port, () => floodFrom(server, port, RESETS)),
);
