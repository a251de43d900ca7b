export { addConnectRoutes, type ConnectRoutesOptions } from "./add-connect-routes.js";
export type { IncomingCall } from "./route.js";
