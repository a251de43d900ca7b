/** When the server stops, clients have this time to read what we sent. */
export const DELIVERY_MS = 1_000;
