export { addConnectRoutes, type ConnectRoutesOptions } from "./server/add-connect-routes.js";
export type { DescribeMalformed, IncomingCall } from "./server/route.js";
