// A process that revokes the sessions that its parent names, and says when the server acknowledged.
import { createSessionClient } from "@sessiond/client";

/** What the parent asks for. */
export interface Revocation {
  readonly token: string;
}

/** When it was done, by the machine's clock. */
export interface Revoked {
  readonly acknowledgedMs: number;
}

const [baseUrl = "", token = ""] = process.argv.slice(2);
const client = createSessionClient({ baseUrl, token });

process.on("message", async ({ token: ofSession }: Revocation) => {
  await client.revokeSession({ token: ofSession });
  process.send?.({ acknowledgedMs: Date.now() } satisfies Revoked);
});
process.send?.("ready");
