import type { JsonObject } from "@sessiond/client";

/**
 * The types of your application, for all of its requests:
 *
 * ```ts
 * declare module "@sessiond/web" {
 *   interface Register {
 *     data: { cart: string[] };
 *   }
 * }
 * ```
 */
// biome-ignore lint/suspicious/noEmptyInterface: applications add to it.
export interface Register {}

/** The type of the sessions' data: what the application registered, or any JSON object. */
export type SessionData = Register extends { data: infer Data extends object } ? Data : JsonObject;
