import { defineScript } from "../connection/script.js";

/** An event in a stream: its id, and the names and values of its fields. */
export type EventEntry = readonly [id: Buffer, fields: Buffer[]];

/** The reply of `READ_EVENTS`. */
export interface EventsReply {
  readonly timeMs: number;
  /** The process that keeps the partition. Undefined if it was not asked. */
  readonly process: Buffer | undefined;
  /** The id of the last event. Empty if there is none. */
  readonly lastId: Buffer;
  readonly entries: readonly EventEntry[];
}

/**
 * Reads at most `count` events of a partition after a position, or from the beginning if the stream
 * has another epoch. `asksProcess` is '1' or ''.
 */
export const READ_EVENTS = defineScript({
  flags: "no-writes",
  keys: ["events"],
  args: ["epoch", "sequence", "count", "asksProcess"],
  body: `
local now, process = int(read_clock()), ''
if asks_process == '1' then
  -- The replication id changes with every promotion, also of an earlier primary.
  local info = redis.call('INFO', 'server', 'replication')
  process = string.match(info, 'run_id:(%x+)') .. string.match(info, 'master_replid:(%x+)')
end
local last = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)[1]
if not last then return { now, process, '', {} } end
local start = '-'
if string.match(last[1], '^%d+') == epoch then start = '(' .. epoch .. '-' .. sequence end
local found = tonumber(count) > 0 and redis.call('XRANGE', events, start, '+', 'COUNT', count) or {}
return { now, process, last[1], found }`,
  parse: (reply): EventsReply => {
    const [time, process, lastId, entries] = reply as [Buffer, Buffer, Buffer, EventEntry[]];
    const timeMs = Number(time);
    return { timeMs, process: process.length > 0 ? process : undefined, lastId, entries };
  },
});
