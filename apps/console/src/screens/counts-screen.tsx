import type { Sample } from "../live/history.js";
import { Notice } from "../parts/notice.js";
import { Exact } from "../parts/time.js";
import { useStore } from "../store.js";
import type { Live } from "../workspace.js";
import { LiveBadge } from "./live-badge.js";
import type { ScreenProps } from "./screen-props.js";

const WIDTH = 600;
const HEIGHT = 160;

/** How many sessions there are, over the time that the page was open. */
export function CountsScreen({ workspace: { live } }: ScreenProps) {
  return live && <CountsOverTime live={live} />;
}

function CountsOverTime({ live: { watch, history } }: { readonly live: Live }) {
  const { samples, problem } = useStore(history.counts);
  const [first, last] = [samples[0], samples.at(-1)];
  const sum = (key: "created" | "ended") => samples.reduce((total, each) => total + each[key], 0);
  return (
    <section class="screen">
      <div class="bar">
        <h1>Counts</h1>
        <LiveBadge watch={watch} />
      </div>
      {problem !== undefined && <Notice kind="problem">{problem}</Notice>}
      {first === undefined || last === undefined ? (
        <Notice kind="empty">The first count is on its way.</Notice>
      ) : (
        <>
          <dl class="figures">
            <Figure name="Active now" value={last.active} />
            <Figure name="Created since opened" value={sum("created")} />
            <Figure name="Revoked or evicted since opened" value={sum("ended")} />
          </dl>
          <Chart samples={samples} />
          <p class="note">
            Counted every five seconds since <Exact ms={first.timeMs} />, for the last hour at most.
            The server keeps no counts: for longer times, Prometheus reads <code>/metrics</code>. A
            session that expires changes the first figure only.
          </p>
        </>
      )}
    </section>
  );
}

function Figure({ name, value }: { readonly name: string; readonly value: number }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value.toLocaleString("en")}</dd>
    </div>
  );
}

/** The active sessions as a line, from zero to the most there were. */
function Chart({ samples }: { readonly samples: readonly Sample[] }) {
  const most = Math.max(1, ...samples.map(({ active }) => active));
  const [from = 0, to = 0] = [samples[0]?.timeMs, samples.at(-1)?.timeMs];
  const x = ({ timeMs }: Sample) => (WIDTH * (timeMs - from)) / Math.max(1, to - from);
  const y = ({ active }: Sample) => HEIGHT - (HEIGHT * active) / most;
  const points = samples.map((sample) => `${x(sample).toFixed(1)},${y(sample).toFixed(1)}`);
  const least = Math.min(...samples.map(({ active }) => active));
  return (
    <figure>
      <svg
        class="chart"
        viewBox={`0 -4 ${WIDTH} ${HEIGHT + 8}`}
        preserveAspectRatio="none"
        role="img"
        aria-label={`Active sessions: between ${least} and ${most}, now ${samples.at(-1)?.active}`}
      >
        <polyline points={`${points.join(" ")} ${WIDTH},${points.at(-1)?.split(",")[1]}`} />
      </svg>
      <figcaption>
        <span>0 to {most.toLocaleString("en")} active sessions</span>
      </figcaption>
    </figure>
  );
}
