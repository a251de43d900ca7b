// The peer: a bare grpc-js server for VerifySession. It serializes the same message for each call.
// No authentication, no store, no log: it measures the cost of grpc-js and protobuf-es alone.
import { readFileSync } from "node:fs";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { type handleUnaryCall, Server, ServerCredentials } from "@grpc/grpc-js";
import {
  SessionService,
  type VerifySessionRequest,
  VerifySessionRequestSchema,
  type VerifySessionResponse,
  VerifySessionResponseSchema,
} from "@sessiond/proto/sessiond/v1/session_service";

const [file = ""] = process.argv.slice(2);
const response = fromBinary(VerifySessionResponseSchema, readFileSync(file));

const server = new Server();
const answer: handleUnaryCall<VerifySessionRequest, VerifySessionResponse> = (_call, respond) =>
  respond(null, response);
server.register<VerifySessionRequest, VerifySessionResponse>(
  `/${SessionService.typeName}/VerifySession`,
  answer,
  (message) => Buffer.from(toBinary(VerifySessionResponseSchema, message)),
  (bytes) => fromBinary(VerifySessionRequestSchema, bytes),
  "unary",
);
server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  console.log(JSON.stringify({ grpc_address: `127.0.0.1:${port}` }));
});
