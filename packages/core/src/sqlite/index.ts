export { RESERVE_BYTES } from "./disk-reserve.js";
export { OLD_SCHEMA } from "./open-read-only.js";
export { openSqliteStores, type SqliteStores } from "./open-sqlite-stores.js";
export { SqliteLockStore } from "./sqlite-lock-store.js";
export { SqliteRateLimitStore } from "./sqlite-rate-limit-store.js";
export { SqliteSessionStore, type SqliteSessionStoreOptions } from "./sqlite-session-store.js";
