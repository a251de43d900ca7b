import type { SessionWatch } from "../live/session-watch.js";
import { Ago } from "../parts/time.js";
import { useStore } from "../store.js";

/** Says whether the screen shows what the server has now. */
export function LiveBadge({ watch }: { readonly watch: SessionWatch }) {
  const { kind, heardMs, problem } = useStore(watch.state);
  if (kind === "live") return <span class="badge live">Live</span>;
  if (kind === "connecting") return <span class="badge">Connecting…</span>;
  return (
    <span class="badge stale" role="status">
      Stale: last heard {heardMs === undefined ? "never" : <Ago ms={heardMs} offsetMs={0} />}.{" "}
      {problem}
    </span>
  );
}
