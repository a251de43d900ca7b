// What `require("@sessiond/client")` returns. Node.js can require an ES module, but before its mode
// `node20` TypeScript refuses to import the declarations of one into a CommonJS module.
import type * as sdk from "./dist/index.js" with { "resolution-mode": "import" };

export type * from "./dist/index.js" with { "resolution-mode": "import" };
export declare const clientCredentials: typeof sdk.clientCredentials;
export declare const Code: typeof sdk.Code;
export type Code = sdk.Code;
export declare const createRateLimitMiddleware: typeof sdk.createRateLimitMiddleware;
export declare const createSessionClient: typeof sdk.createSessionClient;
export declare const hashCredential: typeof sdk.hashCredential;
export declare const httpStatusByReason: typeof sdk.httpStatusByReason;
export declare const rateLimitFields: typeof sdk.rateLimitFields;
export declare const SessiondError: typeof sdk.SessiondError;
export type SessiondError = sdk.SessiondError;
export declare const tokenFile: typeof sdk.tokenFile;
