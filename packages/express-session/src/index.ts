export { SessiondStore, type SessiondStoreOptions, type SessionUser } from "./sessiond-store.js";
