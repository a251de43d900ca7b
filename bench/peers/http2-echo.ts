// The floor of Node: a bare node:http2 server for VerifySession over gRPC. It parses the request and
// serializes the same message for each call.
import { readFileSync } from "node:fs";
import { createServer, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  VerifySessionRequestSchema,
  VerifySessionResponseSchema,
} from "@sessiond/proto/sessiond/v1/session_service";

const [file = ""] = process.argv.slice(2);
const response = fromBinary(VerifySessionResponseSchema, readFileSync(file));
const PREFIX_BYTES = 5;

const server = createServer();
server.on("stream", (stream: ServerHttp2Stream) => {
  const parts: Buffer[] = [];
  stream.on("data", (part: Buffer) => parts.push(part));
  stream.on("end", () => {
    fromBinary(VerifySessionRequestSchema, Buffer.concat(parts).subarray(PREFIX_BYTES));
    const message = toBinary(VerifySessionResponseSchema, response);
    const frame = Buffer.alloc(PREFIX_BYTES + message.length);
    frame.writeUInt32BE(message.length, 1);
    frame.set(message, PREFIX_BYTES);
    stream.respond({ "content-type": "application/grpc" }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
    stream.end(frame);
  });
});
server.listen(0, "127.0.0.1", () => {
  const { port } = server.address() as AddressInfo;
  console.log(JSON.stringify({ grpc_address: `127.0.0.1:${port}` }));
});
