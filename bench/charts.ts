// The charts of `pnpm bench`: bars in SVG, readable on a light and on a dark page.
import { mkdirSync, writeFileSync } from "node:fs";
import type { Circumstances, Figures } from "./comparison.ts";

const DIR = new URL("charts/", import.meta.url);
const WIDTH = 860;
const NAMES_WIDTH = 310;
const VALUES_WIDTH = 90;
const ROW_HEIGHT = 28;
const BAR_HEIGHT = 16;
const TOP = 84;
const BOTTOM = 92;
const LINE_LENGTH = 128;

/** What a bar is made of: one part, or several one after the other. */
interface Bar {
  readonly name: string;
  readonly parts: readonly { readonly color: string; readonly value: number }[];
  readonly label: string;
}

interface Chart {
  readonly title: string;
  /** What the axis counts, with its unit. */
  readonly axis: string;
  readonly legend: readonly { readonly color: string; readonly text: string }[];
  readonly bars: readonly Bar[];
}

const KINDS = [
  { color: "sessiond", text: "sessiond" },
  { color: "peer", text: "what somebody would use instead" },
  { color: "limit", text: "the limit: no session at all" },
];

/** Writes all charts. */
export function drawCharts(figures: readonly Figures[], run: Circumstances): void {
  mkdirSync(DIR, { recursive: true });
  for (const [name, chart] of Object.entries(chartsOf(figures, run))) {
    writeFileSync(new URL(`${name}.svg`, DIR), draw(chart, run));
  }
}

function chartsOf(figures: readonly Figures[], run: Circumstances): Record<string, Chart> {
  const single = (each: Figures, value: number, label: string): Bar => ({
    ...{ name: each.name, label },
    parts: [{ color: each.kind, value }],
  });
  // GET has no server of its own, and would be far beyond the others' axis.
  const servers = figures.filter(({ cost }) => cost.server > 0 && cost.client > 0);
  const measured = figures.filter(({ latency }) => latency !== undefined);
  const stored = figures.filter(({ bytesPerSession }) => bytesPerSession !== undefined);
  return {
    "calls-per-core": {
      title: "Sessions verified per second by one core of the server",
      axis: "calls per second and core (more is better)",
      legend: KINDS,
      bars: byValue(servers, ({ callsPerCore }) => -callsPerCore).map((each) =>
        single(each, each.callsPerCore, Math.round(each.callsPerCore).toLocaleString("en")),
      ),
    },
    cpu: {
      title: "CPU time of one verification",
      axis: "µs (less is better)",
      legend: [
        { color: "server", text: "server" },
        { color: "redis", text: "Redis" },
        { color: "client", text: "client: h2load or redis-benchmark, in C" },
      ],
      bars: byValue(figures, ({ cost }) => cost.server + cost.redis + cost.client).map(
        ({ name, cost }) => ({
          name,
          parts: (["server", "redis", "client"] as const).map((color) => ({
            ...{ color, value: cost[color] },
          })),
          label: `${Math.round(cost.server + cost.redis + cost.client)}`,
        }),
      ),
    },
    latency: {
      title: `Time until the answer, with ${run.perSecond} calls a second`,
      axis: "ms (less is better)",
      legend: [
        { color: "median", text: "half of the calls" },
        { color: "slow", text: "99 of 100 calls" },
      ],
      bars: byValue(measured, ({ latency }) => latency?.p50Ms ?? 0).map(({ name, latency }) => {
        const { p50Ms, p99Ms } = latency ?? { p50Ms: 0, p99Ms: 0 };
        const parts = [
          { color: "median", value: p50Ms },
          { color: "slow", value: p99Ms - p50Ms },
        ];
        return { name, parts, label: `${p50Ms.toFixed(2)} / ${p99Ms.toFixed(2)}` };
      }),
    },
    memory: {
      title: "Memory of Redis for one session",
      axis: "bytes (less is better)",
      legend: KINDS.slice(0, 2),
      bars: onceEach(stored).map((each) =>
        single(each, each.bytesPerSession ?? 0, `${Math.round(each.bytesPerSession ?? 0)}`),
      ),
    },
  };
}

/** All protocols of sessiond keep the same session. */
function onceEach(figures: readonly Figures[]): Figures[] {
  const [first, ...others] = figures;
  if (first === undefined) return [];
  const peers = others.filter(({ kind }) => kind !== "sessiond");
  const sessiond = { ...first, name: "sessiond, sealed, indexed, with events" };
  return byValue([sessiond, ...peers], ({ bytesPerSession }) => bytesPerSession ?? 0);
}

function byValue(figures: readonly Figures[], value: (each: Figures) => number): Figures[] {
  return figures.toSorted((a, b) => value(a) - value(b));
}

function draw({ title, axis, legend, bars }: Chart, run: Circumstances): string {
  const longest = Math.max(...bars.map(({ parts }) => sumOf(parts)));
  const step = stepOf(longest);
  const axisEnd = Math.ceil(longest / step) * step;
  const plotWidth = WIDTH - NAMES_WIDTH - VALUES_WIDTH;
  const x = (value: number) => NAMES_WIDTH + (value / axisEnd) * plotWidth;
  const plotBottom = TOP + bars.length * ROW_HEIGHT;
  const ticks = Array.from({ length: Math.round(axisEnd / step) + 1 }, (_, i) => i * step);
  const footer = [`Measured by ${run.command} on ${run.machine}.`, ...linesOf(`${run.versions}.`)];
  const height = plotBottom + BOTTOM + 14 * (footer.length - 2);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="${escapeXml(title)}">
<style>${STYLE}</style>
<rect class="page" width="${WIDTH}" height="${height}" rx="8"/>
<text class="title" x="20" y="32">${escapeXml(title)}</text>
${legendOf(legend)}
${ticks
  .map(
    (tick) =>
      `<line class="grid" x1="${x(tick)}" x2="${x(tick)}" y1="${TOP}" y2="${plotBottom}"/><text class="tick" x="${x(tick)}" y="${plotBottom + 16}">${numberOf(tick, step)}</text>`,
  )
  .join("\n")}
${bars.map((bar, i) => barOf(bar, TOP + i * ROW_HEIGHT, x)).join("\n")}
<text class="axis" x="${NAMES_WIDTH + plotWidth / 2}" y="${plotBottom + 36}">${escapeXml(axis)}</text>
${footer.map((line, i) => `<text class="footer" x="20" y="${plotBottom + 62 + 14 * i}">${escapeXml(line)}</text>`).join("\n")}
</svg>
`;
}

function barOf({ name, parts, label }: Bar, top: number, x: (value: number) => number): string {
  const y = top + (ROW_HEIGHT - BAR_HEIGHT) / 2;
  const middle = top + ROW_HEIGHT / 2 + 4;
  let from = 0;
  const rects = parts.map(({ color, value }) => {
    const [left, right] = [x(from), x(from + value)];
    from += value;
    return `<rect class="${color}" x="${left.toFixed(1)}" y="${y}" width="${(right - left).toFixed(1)}" height="${BAR_HEIGHT}"/>`;
  });
  const isOurs = name.startsWith("sessiond");
  return `<text class="name${isOurs ? " ours" : ""}" x="${NAMES_WIDTH - 10}" y="${middle}">${escapeXml(name)}</text>${rects.join("")}<text class="value" x="${(x(from) + 6).toFixed(1)}" y="${middle}">${label}</text>`;
}

function legendOf(entries: Chart["legend"]): string {
  let left = 20;
  return entries
    .map(({ color, text }) => {
      const at = left;
      left += 36 + 7 * text.length;
      return `<rect class="${color}" x="${at}" y="48" width="12" height="12"/><text class="legend" x="${at + 18}" y="58">${escapeXml(text)}</text>`;
    })
    .join("\n");
}

/** Breaks a line at commas, so that it fits on the page. */
function linesOf(text: string): string[] {
  const lines: string[] = [];
  for (const part of text.split(/(?<=, )/)) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + part.length <= LINE_LENGTH) {
      lines[lines.length - 1] = last + part;
    } else lines.push(part);
  }
  return lines;
}

/** A round step, so that an axis has between four and ten. */
function stepOf(longest: number): number {
  const power = 10 ** Math.floor(Math.log10(longest));
  const step = [0.1, 0.2, 0.5, 1].find((share) => longest / (share * power) <= 9) ?? 1;
  return step * power;
}

function numberOf(value: number, step: number): string {
  const digits = Math.max(0, -Math.floor(Math.log10(step)));
  return value.toLocaleString("en", {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
}

function sumOf(parts: Bar["parts"]): number {
  return parts.reduce((sum, { value }) => sum + value, 0);
}

function escapeXml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}

/** The page has a colour of its own, so that text is readable wherever the chart stands. */
const STYLE = `
text { font: 12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328; }
.page { fill: #ffffff; } .grid { stroke: #d8dee4; }
.title { font-size: 17px; font-weight: 600; }
.name { text-anchor: end; } .ours { font-weight: 600; } .tick, .axis { text-anchor: middle; }
.tick, .axis, .legend, .footer { fill: #57606a; } .footer { font-size: 10.5px; }
.sessiond, .server, .median { fill: #2563c9; } .peer, .redis { fill: #d97a1c; }
.limit, .client, .slow { fill: #9aa4af; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } .page { fill: #0d1117; } .grid { stroke: #30363d; }
  .tick, .axis, .legend, .footer { fill: #9aa5b1; }
  .sessiond, .server, .median { fill: #4c8df6; } .peer, .redis { fill: #e8913a; }
  .limit, .client, .slow { fill: #6b7683; }
}
`.trim();
