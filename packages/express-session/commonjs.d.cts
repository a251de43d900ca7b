// What `require("@sessiond/express-session")` returns. Node.js can require an ES module, but before
// its mode `node20` TypeScript refuses to import the declarations of one into a CommonJS module.
import type * as store from "./dist/index.js" with { "resolution-mode": "import" };

export type * from "./dist/index.js" with { "resolution-mode": "import" };
export declare const SessiondStore: typeof store.SessiondStore;
export type SessiondStore = store.SessiondStore;
