// What the application of each recipe has anyway.
import type { IncomingMessage } from "node:http";
import { text } from "node:stream/consumers";
import { createSessionClient } from "@sessiond/client";
import type { Login, SessionData } from "@sessiond/web";

export const client = createSessionClient<SessionData>({
  baseUrl: process.env["SESSIOND_URL"] ?? "http://127.0.0.1:50051",
  token: process.env["SESSIOND_TOKEN"] ?? "",
});

/** The user with this name and password, or undefined. Yours compares with a slow hash. */
export function userWith(name: unknown, password: unknown): Login | undefined {
  return password === `secret of ${name}` ? { userId: String(name) } : undefined;
}

/** What a client sends to log in. Yours checks it. */
export function credentials(input: unknown): { name: string; password: string } {
  const { name, password } = Object(input);
  return { name, password };
}

/** The fields of a form. Yours bounds its size. */
export async function formOf(request: IncomingMessage): Promise<ReturnType<typeof credentials>> {
  return credentials(Object.fromEntries(new URLSearchParams(await text(request))));
}
