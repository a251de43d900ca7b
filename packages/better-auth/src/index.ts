export {
  type RateLimitStorageOptions,
  sessiondRateLimitStorage,
} from "./rate-limit-storage.js";
export { type SessiondAdapterOptions, sessiondAdapter } from "./sessiond-adapter.js";
