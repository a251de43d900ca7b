import { withCauses } from "../command/causes.js";
import type { TextOutput } from "../command/command.js";
import { EXIT_FAILURE, EXIT_OK, EXIT_UNAVAILABLE, exitCodeOf } from "../command/exit-codes.js";
import { onSignals } from "../command/signals.js";
import { printable } from "../terminal/printable.js";
import { logInOnDevice } from "./device-login.js";
import { IssuerError } from "./issuer.js";
import type { IssuerRequest } from "./issuer-flags.js";
import { changeLogin, type Login, type LoginPlace, readLogin } from "./logins.js";

/** Options of `runLogin`. */
export interface LoginOptions {
  readonly place: LoginPlace;
  readonly request: IssuerRequest;
  readonly stderr: TextOutput;
}

/**
 * Logs in at an issuer and keeps its tokens. Returns the exit code: 1 if the issuer or the user
 * refuses, 69 if the issuer does not answer, 128 and its number if a signal came first.
 */
export async function runLogin({ place, request, stderr }: LoginOptions): Promise<number> {
  const say = (line: string) => stderr.write(`sessiond: ${line}\n`);
  const stopping = new AbortController();
  let signal: NodeJS.Signals | undefined;
  using _stopping = onSignals(["SIGINT", "SIGTERM"], (name) => {
    signal ??= name;
    stopping.abort();
  });
  // A file that cannot be used is a fault before the user has done anything.
  readLogin(place);
  try {
    const login = await logInOnDevice(
      request,
      ({ address, code, completeAddress }) => {
        say(`open ${printable(address)} and enter the code ${printable(code)}`);
        if (completeAddress !== undefined) say(`or open ${printable(completeAddress)}`);
      },
      stopping.signal,
    );
    await changeLogin(place, async () => login);
    say(`logged in to ${place.origin}${lifetime(login)}`);
    return EXIT_OK;
  } catch (error) {
    if (signal !== undefined) return exitCodeOf(signal);
    if (!(error instanceof IssuerError)) throw error;
    say(withCauses(error));
    return error.refusal === undefined ? EXIT_UNAVAILABLE : EXIT_FAILURE;
  }
}

function lifetime({ expireTime, refreshToken }: Login): string {
  if (refreshToken !== undefined) return "; the login is renewed by itself";
  return expireTime === undefined ? "" : ` until ${expireTime}`;
}
