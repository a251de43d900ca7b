export { NotProcessedError } from "./client/call-error.js";
export type { ClientTls } from "./client/connection-credentials.js";
export {
  createGrpcJsTransport,
  type GrpcJsTransport,
  type GrpcJsTransportOptions,
} from "./client/grpc-js-transport.js";
export { RequestHeaders } from "./metadata/request-headers.js";
export { addConnectRoutes, type ConnectRoutesOptions } from "./server/add-connect-routes.js";
export {
  callUnary,
  type UnaryHeaders,
  type UnaryIncoming,
  type UnaryRoute,
} from "./server/call-unary.js";
export { onHttp2Server } from "./server/http2-servers.js";
export { type CallGate, joinAuthorization, limitGrpcTimeout } from "./server/incoming-headers.js";
export { rememberPeerCertificate, rememberPeerCertificates } from "./server/peer-certificates.js";
export type { DescribeMalformed, IncomingCall } from "./server/route.js";
export { type RouteOptions, routesOf } from "./server/routes.js";
export { statusOf } from "./server/status.js";
export { CHUNK_BYTES, ENVELOPE_BYTES, type UnaryBounds } from "./server/unary-request.js";
