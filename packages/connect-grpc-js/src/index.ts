export { addConnectRoutes, type ConnectRoutesOptions } from "./server/add-connect-routes.js";
export { joinAuthorization, limitGrpcTimeout } from "./server/incoming-headers.js";
export { rememberPeerCertificate, rememberPeerCertificates } from "./server/peer-certificates.js";
export type { DescribeMalformed, IncomingCall } from "./server/route.js";
