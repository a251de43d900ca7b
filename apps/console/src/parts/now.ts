import { Store } from "../store.js";

/** This machine's time in ms, each second. */
export const now = new Store(Date.now());

setInterval(() => {
  now.value = Date.now();
}, 1_000);
