// A client process: calls VerifySession in one way, as its arguments say, each time that its parent
// asks it to. It has a core of its own, so that its CPU time is the caller's.
import * as http2 from "node:http2";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import { createSessionClient } from "@sessiond/client";
import {
  SessionService,
  VerifySessionRequestSchema,
  VerifySessionResponseSchema,
} from "@sessiond/proto/sessiond/v1/session_service";
import { takeOrders } from "./caller.ts";

type Verify = (token: string) => Promise<unknown>;

const PATH = `/${SessionService.typeName}/VerifySession`;

const [way = "", baseUrl = "", accessToken = "", ...tokens] = process.argv.slice(2);
const verify = callerOf(way);
takeOrders((n) => verify(tokens[n % tokens.length] ?? ""));

function callerOf(way: string): Verify {
  const options = { token: accessToken, timeoutMs: 60_000 };
  switch (way) {
    case "sdk": {
      const client = createSessionClient({ ...options, baseUrl });
      return (token) => client.verifySession(token);
    }
    case "sdk-near": {
      const client = createSessionClient({ ...options, baseUrl, nearCache: true });
      return (token) => client.verifySession(token);
    }
    case "sdk-single": {
      const client = createSessionClient({ ...options, baseUrl, batching: false });
      return (token) => client.verifySession(token);
    }
    case "sdk-connect-node": {
      const transport = createGrpcTransport({ baseUrl, acceptCompression: [] });
      const client = createSessionClient({ ...options, transport, batching: false });
      return (token) => client.verifySession(token);
    }
    case "grpc-js":
      return bareGrpc();
    case "http2":
      return bareHttp2();
    default:
      throw new Error(`no way to call: ${way}`);
  }
}

function requestOf(token: string): Buffer {
  const message = create(VerifySessionRequestSchema, { token });
  return Buffer.from(toBinary(VerifySessionRequestSchema, message));
}

function bareGrpc(): Verify {
  const client = new Client(new URL(baseUrl).host, credentials.createInsecure());
  const metadata = new Metadata();
  metadata.set("authorization", `Bearer ${accessToken}`);
  return (token) =>
    new Promise((resolve, reject) => {
      const deadline = Date.now() + 60_000;
      client.makeUnaryRequest(
        PATH,
        requestOf,
        (bytes) => fromBinary(VerifySessionResponseSchema, bytes),
        token,
        metadata,
        { deadline },
        (error, answer) => (error ? reject(error) : resolve(answer)),
      );
    });
}

function bareHttp2(): Verify {
  let session = http2.connect(baseUrl);
  const headers = {
    ":method": "POST",
    ":path": PATH,
    "content-type": "application/grpc",
    te: "trailers",
    authorization: `Bearer ${accessToken}`,
  };
  return (token) =>
    new Promise((resolve, reject) => {
      // The server closes a connection that has no call for ten seconds before its first one.
      if (session.destroyed || session.closed) session = http2.connect(baseUrl);
      const stream = session.request(headers);
      const parts: Buffer[] = [];
      stream.on("data", (part: Buffer) => parts.push(part));
      stream.on("error", reject);
      stream.on("end", () => {
        const bytes = Buffer.concat(parts).subarray(5);
        resolve(fromBinary(VerifySessionResponseSchema, bytes));
      });
      const message = requestOf(token);
      const prefix = Buffer.alloc(5);
      prefix.writeUInt32BE(message.length, 1);
      stream.end(Buffer.concat([prefix, message]));
    });
}
