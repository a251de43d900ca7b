export { SqliteSessionStore, type SqliteSessionStoreOptions } from "./sqlite-session-store.js";
