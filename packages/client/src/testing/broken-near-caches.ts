import type { Clocks } from "../near-cache/freshness.js";
import { NearCache, type NearCacheLimits, type Next } from "../near-cache/near-cache.js";
import type { CallUnderWay } from "../near-cache/recent-changes.js";
import type { Session } from "../sessions/session.js";
import type { WatchMessage } from "../sessions/watch.js";
import type { Lookup, Subject } from "./near-cache-world.js";

type SubjectOf = (limits: NearCacheLimits, clocks: Clocks) => Subject;

/** Looks into the cache as the client does. */
const lookupBy =
  ({ monotonicMs }: Clocks): Lookup =>
  (cache, key) =>
    cache.get(key, monotonicMs())?.session as Session | undefined;

/** The cache as it is. */
export const SOUND: SubjectOf = (limits, clocks) => ({
  cache: new NearCache(limits, clocks),
  lookup: lookupBy(clocks),
});

class ForgetsTheRace extends NearCache {
  override keep(key: string, session: Session, call: CallUnderWay, isTouch: boolean): void {
    const late = { ...this.begin(), startMs: call.startMs };
    super.keep(key, session, late, isTouch);
    this.end();
  }
}

class KeepsAfterReset extends NearCache {
  override receive(message: WatchMessage): Next {
    return message.type === "reset" ? "read on" : super.receive(message);
  }
}

class TrustsTheArrival extends NearCache {
  override receive(message: WatchMessage): Next {
    if (message.type === "checkpoint") this.streamOpens();
    return super.receive(message);
  }
}

class ForgetsTheGrace extends NearCache {
  override keep(key: string, session: Session, call: CallUnderWay, isTouch: boolean): void {
    super.keep(key, { ...session, tokenCreateTime: session.createTime }, call, isTouch);
  }
}

class ForgetsTheDeadline extends NearCache {
  override keep(key: string, session: Session, call: CallUnderWay, isTouch: boolean): void {
    const expireTime = new Date(session.expireTime.getTime() + 3_600_000);
    super.keep(key, { ...session, expireTime }, call, isTouch);
  }
}

class KeepsAfterTheStreamIsLost extends NearCache {
  override streamLost(): void {}
}

const of =
  (Broken: typeof NearCache): SubjectOf =>
  (limits, clocks) => ({ cache: new Broken(limits, clocks), lookup: lookupBy(clocks) });

/** Caches that break one promise each, so the model must refuse them. */
export const BROKEN: readonly (readonly [what: string, subjectOf: SubjectOf])[] = [
  ["forgets changes that overtake an answer", of(ForgetsTheRace)],
  [
    "trusts the wall clock",
    (limits, clocks) => SOUND(limits, { ...clocks, monotonicMs: clocks.wallMs }),
  ],
  ["keeps sessions after a reset", of(KeepsAfterReset)],
  ["remembers that a token is not valid", remembersNo],
  ["trusts the time at which a checkpoint comes", of(TrustsTheArrival)],
  ["keeps what a replaced token gave in its grace", of(ForgetsTheGrace)],
  ["forgets a session's own deadline", of(ForgetsTheDeadline)],
  ["keeps sessions after the stream is lost", of(KeepsAfterTheStreamIsLost)],
];

function remembersNo(limits: NearCacheLimits, clocks: Clocks): Subject {
  const { cache, lookup } = SOUND(limits, clocks);
  const invalid = new Set<string>();
  return {
    cache,
    lookup: (near, key) => (invalid.has(key) ? "invalid" : lookup(near, key)),
    onInvalid: (key) => invalid.add(key),
  };
}
