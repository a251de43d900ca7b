export { addConnectRoutes, type ConnectRoutesOptions } from "./add-connect-routes.js";
export type { DescribeMalformed, IncomingCall } from "./route.js";
