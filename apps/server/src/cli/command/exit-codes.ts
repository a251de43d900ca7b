import { constants } from "node:os";

export const EXIT_OK = 0;
export const EXIT_FAILURE = 1;
/** The command line or the configuration is at fault. Trying again does not help. */
export const EXIT_USAGE = 2;
/** The call to the server failed: `EX_UNAVAILABLE` of sysexits.h. */
export const EXIT_UNAVAILABLE = 69;
/** The lock was not free in time. Trying again may help: `EX_TEMPFAIL` of sysexits.h. */
export const EXIT_TRY_AGAIN = 75;
/** The shells' code for a command that cannot be run. */
export const EXIT_NOT_EXECUTABLE = 126;
/** The shells' code for a command that does not exist. */
export const EXIT_NOT_FOUND = 127;

/** The shells' code for a command that a signal ended: 128 and the signal's number. */
export function exitCodeOf(signal: NodeJS.Signals): number {
  return 128 + constants.signals[signal];
}
