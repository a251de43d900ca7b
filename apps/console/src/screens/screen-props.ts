import type { Workspace } from "../workspace.js";

/** What a screen gets. */
export interface ScreenProps {
  readonly workspace: Workspace;
  /** What the address names besides the screen, such as a user. "" if nothing. */
  readonly subject: string;
}
