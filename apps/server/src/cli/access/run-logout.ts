import { withCauses } from "../command/causes.js";
import type { TextOutput } from "../command/command.js";
import { EXIT_OK } from "../command/exit-codes.js";
import { Issuer, IssuerError } from "./issuer.js";
import { changeLogin, type Login, type LoginPlace, readLogin } from "./logins.js";

/** Options of `runLogout`. */
export interface LogoutOptions {
  readonly place: LoginPlace;
  readonly stderr: TextOutput;
}

/** Deletes a login, and ends it at its issuer. Returns the exit code, 0 also if the issuer is down. */
export async function runLogout({ place, stderr }: LogoutOptions): Promise<number> {
  const say = (line: string) => stderr.write(`sessiond: ${line}\n`);
  if (readLogin(place) === undefined) {
    say("no login for this server is kept");
    return EXIT_OK;
  }
  let ended: Login | undefined;
  await changeLogin(place, async (kept) => {
    ended = kept;
    return undefined;
  });
  say(`logged out of ${place.origin}`);
  if (ended === undefined) return EXIT_OK;
  const { issuer, clientId, accessToken, refreshToken = accessToken } = ended;
  try {
    // With the refresh token, the access tokens of the login end, too (RFC 7009, 2.1).
    await (await Issuer.discover(issuer, clientId)).revoke(refreshToken);
  } catch (error) {
    if (!(error instanceof IssuerError)) throw error;
    say(`the login is not revoked at its issuer: ${withCauses(error)}`);
  }
  return EXIT_OK;
}
