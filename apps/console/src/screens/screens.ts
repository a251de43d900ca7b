import type { FunctionComponent } from "preact";
import type { Permission } from "../access/access.js";
import { CountsScreen } from "./counts-screen.js";
import { EventsScreen } from "./events-screen.js";
import { LocksScreen } from "./locks-screen.js";
import { RateLimitsScreen } from "./rate-limits-screen.js";
import type { ScreenProps } from "./screen-props.js";
import { SessionsScreen } from "./sessions-screen.js";

/** Every screen, and the permission without which it is not shown. */
export const SCREENS: readonly {
  readonly name: string;
  readonly title: string;
  readonly needs: Permission;
  readonly Component: FunctionComponent<ScreenProps>;
}[] = [
  { name: "sessions", title: "Sessions", needs: "sessions:read", Component: SessionsScreen },
  { name: "counts", title: "Counts", needs: "sessions:read", Component: CountsScreen },
  { name: "events", title: "Events", needs: "sessions:read", Component: EventsScreen },
  {
    name: "rate-limits",
    title: "Rate limits",
    needs: "rate_limits:use",
    Component: RateLimitsScreen,
  },
  { name: "locks", title: "Locks", needs: "locks:use", Component: LocksScreen },
];
