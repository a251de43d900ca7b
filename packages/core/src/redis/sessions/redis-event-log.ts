import { crc32 } from "node:zlib";
import { storeUnavailable } from "../../errors.js";
import { PARTITIONS, partitionOfUser } from "../../sessions/session-id.js";
import type {
  EventCursor,
  EventLog,
  EventPage,
  EventPosition,
  SessionEvent,
  SessionEventType,
} from "../../watch/session-event.js";
import type { RedisCommands } from "../connection/redis-commands.js";
import { type EventEntry, type EventsReply, READ_EVENTS } from "./event-scripts.js";
import { isEnd } from "./partition-scripts.js";
import type { SessionKeys } from "./session-keys.js";
import { fromStoredId } from "./stored-id.js";

/** One read takes at least this many events of each lane. */
const MIN_EVENTS_PER_LANE = 16;

/**
 * The event log of a namespace in Redis: each partition has a lane, which is a stream. Hints come
 * through Pub/Sub.
 */
export class RedisEventLog implements EventLog {
  readonly #commands: RedisCommands;
  readonly #keys: SessionKeys;
  readonly #retentionMs: number;
  /** Gives each of several stores and namespaces in one Redis its own sources. */
  readonly #salt: number;

  constructor(commands: RedisCommands, keys: SessionKeys, retentionMs: number) {
    this.#commands = commands;
    this.#keys = keys;
    const { db = 0 } = commands.redis.options as { readonly db?: number };
    this.#salt = crc32(`${db} ${keys.eventChannel()}`);
    this.#retentionMs = retentionMs;
  }

  async end(userId?: string): Promise<EventCursor> {
    const partitions = userId === undefined ? PARTITIONS : [partitionOfUser(userId)];
    const lanes = partitions.map((partition) => Number.parseInt(partition, 16));
    const ends = await this.#readLanes(
      lanes.map((lane) => [lane, undefined]),
      0,
    );
    return new Map(ends.map(({ source, reply }, i) => [lanes[i] ?? 0, endOf(reply, source)]));
  }

  async read(cursor: EventCursor, limit: number): Promise<EventPage | "lost"> {
    const lanes = [...cursor];
    const perLane = Math.max(Math.ceil(limit / lanes.length), MIN_EVENTS_PER_LANE);
    const replies = await this.#readLanes(lanes, perLane);
    const events: SessionEvent[] = [];
    const positions = new Map<number, EventPosition>();
    let isComplete = true;
    for (const [i, [lane, position]] of lanes.entries()) {
      const { source, reply } = replies[i] as (typeof replies)[number];
      const found = reply.entries.map((entry) => toEvent(lane, source, entry));
      if (!this.#follows(position, source, reply, found)) return "lost";
      for (const event of found) events.push(event);
      const last = found.at(-1);
      const end = endOf(reply, source);
      if (last !== undefined && last.position.sequence < end.sequence) {
        isComplete = false;
        positions.set(lane, last.position);
      } else {
        positions.set(lane, end);
      }
    }
    return { events, cursor: positions, isComplete };
  }

  subscribe(listener: (lane: number) => void): () => void {
    return this.#commands.hints.subscribe(
      this.#keys.eventChannel(),
      (partition) => listener(Number.parseInt(partition, 16)),
      // Any lane may have grown while we heard no hints.
      () => {
        for (const lane of PARTITIONS.keys()) listener(lane);
      },
    );
  }

  /** Whether the events follow the position without a gap. */
  #follows(
    position: EventPosition,
    source: number,
    { timeMs, lastId }: EventsReply,
    found: readonly SessionEvent[],
  ): boolean {
    if (position.source !== source) return false;
    const [epoch, lastSequence] = parseId(lastId);
    if (epoch !== 0 && epoch === position.epoch) {
      const next = found[0]?.position.sequence ?? lastSequence + 1;
      return next === position.sequence + 1;
    }
    // The stream was removed with its last event, and may have begun again. Its last events were
    // kept for the retention.
    const sinceMs = epoch === 0 ? timeMs : epoch;
    if (position.timeMs < sinceMs - this.#retentionMs) return false;
    return (found[0]?.position.sequence ?? 1) === 1;
  }

  /** Reads lanes from their positions, with their ends and the process of each. */
  async #readLanes(
    lanes: readonly (readonly [lane: number, from: EventPosition | undefined])[],
    count: number,
  ): Promise<readonly { readonly source: number; readonly reply: EventsReply }[]> {
    const replies = await Promise.all(
      lanes.map(([lane, from], i) =>
        this.#commands.runRead(READ_EVENTS, {
          keys: { events: this.#keys.sessionEvents(PARTITIONS[lane] ?? "") },
          args: {
            epoch: from?.epoch ?? 0,
            sequence: from?.sequence ?? 0,
            count,
            // Without a cluster, one process has all lanes.
            asksProcess: i === 0 || this.#commands.redis.isCluster ? "1" : "",
          },
        }),
      ),
    );
    let source = 0;
    return replies.map((reply) => {
      if (reply.process !== undefined) source = crc32(reply.process, this.#salt);
      return { source, reply };
    });
  }
}

/** The position after the last event of a lane. */
function endOf({ timeMs, lastId }: EventsReply, source: number): EventPosition {
  const [epoch, sequence] = parseId(lastId);
  return { source, epoch, sequence, timeMs };
}

/** Parses `<epoch>-<number>`. An empty id is number 0 of epoch 0. */
function parseId(id: Buffer): readonly [epoch: number, sequence: number] {
  const [epoch, sequence] = id.toString("latin1").split("-");
  return [Number(epoch), Number(sequence ?? 0)];
}

function toEvent(lane: number, source: number, [id, fields]: EventEntry): SessionEvent {
  const [, type, , storedId, , userId, , version, , time, , reason, , changedBy] = fields;
  if (storedId === undefined || changedBy === undefined) {
    throw storeUnavailable("the event log is not readable");
  }
  const [epoch, sequence] = parseId(id);
  const timeMs = Number(time);
  return {
    type: String(type) as SessionEventType,
    sessionId: fromStoredId(storedId),
    userId: String(userId),
    version: Number(version),
    timeMs,
    ...(isEnd(String(type)) && { reason: String(reason) }),
    changedBy: String(changedBy),
    lane,
    position: { source, epoch, sequence, timeMs },
  };
}
