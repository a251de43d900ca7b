import { constants } from "node:os";

export const EXIT_OK = 0;
export const EXIT_FAILURE = 1;
/** The command line or the configuration is at fault; trying again is of no use. */
export const EXIT_USAGE = 2;
/** The server could not be asked, or gave no answer: `EX_UNAVAILABLE` of sysexits.h. */
export const EXIT_UNAVAILABLE = 69;
/** What was asked for could not be had in time; it may be later: `EX_TEMPFAIL` of sysexits.h. */
export const EXIT_TRY_AGAIN = 75;
/** As shells have it for a command that cannot be run, and for one that is not there. */
export const EXIT_NOT_EXECUTABLE = 126;
export const EXIT_NOT_FOUND = 127;

/** As shells have it for what a signal ended. */
export function exitCodeOf(signal: NodeJS.Signals): number {
  return 128 + constants.signals[signal];
}
