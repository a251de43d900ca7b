import { useStore } from "../store.js";
import { now } from "./now.js";

const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "narrow" });
const EXACT = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "long" });
const UNITS = [
  ["day", 86_400_000],
  ["hour", 3_600_000],
  ["minute", 60_000],
  ["second", 1_000],
] as const;

/** A time as seen from now, with the exact one on hover. */
export function Ago({ ms, offsetMs }: { readonly ms: number; readonly offsetMs: number }) {
  const nowMs = useStore(now) + offsetMs;
  if (ms === 0) return <>–</>;
  // The clocks of two machines are never quite the same.
  return <Moment ms={ms}>{relative(Math.min(ms - nowMs, 0))}</Moment>;
}

/** How long until a time, to the second. */
export function Countdown({ ms, offsetMs }: { readonly ms: number; readonly offsetMs: number }) {
  const nowMs = useStore(now) + offsetMs;
  return <Moment ms={ms}>{ms <= nowMs ? "now" : `in ${countdown(ms - nowMs)}`}</Moment>;
}

/** The exact time. */
export function Exact({ ms }: { readonly ms: number }) {
  if (ms === 0) return <>–</>;
  return <time dateTime={new Date(ms).toISOString()}>{EXACT.format(ms)}</time>;
}

function Moment({ ms, children }: { readonly ms: number; readonly children: string }) {
  return (
    <time dateTime={new Date(ms).toISOString()} title={EXACT.format(ms)}>
      {children}
    </time>
  );
}

function relative(ms: number): string {
  const [unit, size] = UNITS.find(([, size]) => -ms >= size) ?? (["second", 1_000] as const);
  return RELATIVE.format(Math.trunc(ms / size), unit);
}

/** `2d 3h`, `4h 05m`, `12:07`. */
function countdown(ms: number): string {
  const s = Math.floor(ms / 1_000);
  const [days, hours, minutes] = [
    Math.floor(s / 86_400),
    Math.floor(s / 3_600),
    Math.floor(s / 60),
  ];
  const two = (count: number) => String(count).padStart(2, "0");
  if (days > 0) return `${days}d ${hours % 24}h`;
  if (hours > 0) return `${hours}h ${two(minutes % 60)}m`;
  return `${minutes}:${two(s % 60)}`;
}
