import { once } from "node:events";
import * as http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { create, type DescMethod, fromBinary, type Message, toBinary } from "@bufbuild/protobuf";
import { type Client as ConnectClient, createClient } from "@connectrpc/connect";
import { connectNodeAdapter, createGrpcTransport } from "@connectrpc/connect-node";
import * as grpc from "@grpc/grpc-js";
import type { Session } from "@sessiond/client";
import * as onConnect from "@sessiond/client/connect";
import * as onGrpcJs from "@sessiond/client/grpc-js";
import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";
import { onTestFinished } from "vitest";

/** What the application of the tests keeps in its sessions. */
export interface Basket {
  readonly basket?: readonly string[];
}

/** A service that is called for users. */
export interface Shop {
  readonly client: ConnectClient<typeof SessionService>;
  readonly port: number;
  /** The users for whom handlers ran. Undefined for guests. */
  readonly served: readonly (string | undefined)[];
}

/** What a test changes about its service. */
export interface ShopOptions extends onConnect.UserSessionsOptions<Basket> {
  /** The port of another service, which answers `getSession` in place of this one. */
  readonly behind?: number;
}

/** Any service will do, and this one has stubs: a unary method and a stream. */
const { getSession, watchSessions } = SessionService.method;
/** The path of the unary method. */
export const UNARY = "/sessiond.v1.SessionService/GetSession";

const answerTo = (session?: Session<Basket>) => ({
  session: { userId: session?.userId ?? "", displayName: session?.data.basket?.join(" ") ?? "" },
});
const clientOf = (port: number) =>
  createClient(SessionService, createGrpcTransport({ baseUrl: `http://127.0.0.1:${port}` }));

/** A service on connect-node, until the end of the test. */
async function startConnect({ behind, ...options }: ShopOptions): Promise<Shop> {
  const served: (string | undefined)[] = [];
  const users = onConnect.userSessions(options);
  const handler = connectNodeAdapter({
    interceptors: [users.interceptor],
    routes: (router) => {
      router.rpc(getSession, (request, context) => {
        const session = context.values.get(users.key);
        served.push(session?.userId);
        if (behind === undefined) return answerTo(session);
        return clientOf(behind).getSession(request, { headers: users.forward(context) });
      });
      router.rpc(watchSessions, async function* (_request, { values }) {
        const { userId } = users.require(values);
        served.push(userId);
        yield { resumeToken: userId };
      });
    },
  });
  const server = http2.createServer(handler).listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  const { port } = server.address() as AddressInfo;
  return { client: clientOf(port), port, served };
}

/** The same service on grpc-js, until the end of the test. */
async function startGrpcJs({ behind, ...options }: ShopOptions): Promise<Shop> {
  const served: (string | undefined)[] = [];
  const users = onGrpcJs.userSessions(options);
  const server = new grpc.Server({ interceptors: [users.interceptor] });
  server.addService(
    { getSession: definition(getSession), watchSessions: definition(watchSessions) },
    {
      getSession(
        call: grpc.ServerUnaryCall<Message, Message>,
        answer: grpc.sendUnaryData<Message>,
      ) {
        const session = users.get(call);
        served.push(session?.userId);
        if (behind === undefined) answer(null, create(getSession.output, answerTo(session)));
        else callBehind(behind, call.request, users.forward(call), answer);
      },
      watchSessions(call: grpc.ServerWritableStream<Message, Message>) {
        const { userId } = users.require(call);
        served.push(userId);
        call.write(create(watchSessions.output, { resumeToken: userId }));
        call.end();
      },
    },
  );
  const port = await new Promise<number>((resolve, reject) => {
    const bound = (error: Error | null, number: number) =>
      error ? reject(error) : resolve(number);
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), bound);
  });
  onTestFinished(() => server.forceShutdown());
  return { client: clientOf(port), port, served };
}

function callBehind(
  port: number,
  request: Message,
  metadata: grpc.Metadata,
  answer: grpc.sendUnaryData<Message>,
): void {
  const { path, requestSerialize, responseDeserialize } = definition(getSession);
  const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
  onTestFinished(() => client.close());
  client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, metadata, answer);
}

/** A method as a generator for grpc-js would describe it. */
function definition({ input, output, methodKind, name, parent }: DescMethod) {
  return {
    path: `/${parent.typeName}/${name}`,
    requestStream: false,
    responseStream: methodKind === "server_streaming",
    requestSerialize: (message: Message) => Buffer.from(toBinary(input, message)),
    requestDeserialize: (bytes: Uint8Array): Message => fromBinary(input, bytes),
    responseSerialize: (message: Message) => Buffer.from(toBinary(output, message)),
    responseDeserialize: (bytes: Uint8Array): Message => fromBinary(output, bytes),
  };
}

/** How each framework starts the service. */
export const FRAMEWORKS = { Connect: startConnect, "grpc-js": startGrpcJs };
