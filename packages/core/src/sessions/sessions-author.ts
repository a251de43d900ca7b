import { LIMITS } from "../validation.js";
import { type Author, NOBODY } from "../watch/author.js";
import { keptText } from "./descriptions.js";

/** Who calls. */
export interface SessionsAuthor extends Author {
  /** Told that a session was refused, because its user has as many as the limit allows. */
  limitReached(userId: string, maxSessionsPerUser: number): void;
}

/** The author of a program that calls for nobody else. */
export const NOBODY_CALLS: SessionsAuthor = { ...NOBODY, limitReached: () => {} };

/** The author as stores know it. Its name merely describes, so it is cut and fails no call. */
export function authorOfEvents(author: Author): Author {
  return {
    name: keptText("changed_by", author.name, LIMITS.changedByBytes),
    changed: (change) => author.changed(change),
  };
}
