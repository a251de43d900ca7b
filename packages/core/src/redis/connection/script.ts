import { createHash } from "node:crypto";

/** One argument of a command. */
export type Argument = string | number | Buffer;

/**
 * How much longer than needed Redis keeps sessions and locks. The sweeper and the next holder
 * remove them earlier. The TTL is for when neither comes.
 */
export const RECLAIM_SLACK_MS = 3_600_000;

/** Whether a script writes, and whether it may run when memory is full: it then hardly grows. */
type Flags = "allow-oom" | "deny-oom" | "no-writes";

/** A Lua script: one atomic step. The names of its keys and arguments are its local variables. */
export interface Script<Key extends string, Arg extends string, Reply> {
  readonly source: string;
  readonly sha1: string;
  readonly keys: readonly Key[];
  readonly args: readonly Arg[];
  /** `args` are the arguments of the run. */
  readonly parse: (reply: unknown, args: Readonly<Record<Arg, Argument>>) => Reply;
}

/** One run of a script. */
export interface ScriptCall<Key extends string, Arg extends string> {
  readonly keys: Readonly<Record<Key, string | Buffer>>;
  readonly args: Readonly<Record<Arg, Argument>>;
  /** Any number of keys after the named ones. */
  readonly moreKeys?: readonly string[] | undefined;
  /** Any number of arguments after the named ones: in Lua from ARGV[first_more] on. */
  readonly moreArgs?: readonly Argument[] | undefined;
}

/** Begins every script. ARGV[1] is the time in microseconds, or '' for the time of Redis. */
const PRELUDE = `
-- %d, because tostring would write a large number with an exponent.
local function int(number) return string.format('%d', number) end

local function read_clock_us()
  if ARGV[1] ~= '' then return tonumber(ARGV[1]) end
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
local function read_clock() return math.floor(read_clock_us() / 1000) end

-- Whether a comes before b, as Redis orders bytes. Lua's < goes by the locale.
local function precedes(a, b)
  for i = 1, math.min(#a, #b) do
    local byte, other = string.byte(a, i), string.byte(b, i)
    if byte ~= other then return byte < other end
  end
  return #a < #b
end
`;

/**
 * Makes a script. In Lua, a key or argument `tokenHash` is the string `token_hash`, `int` formats a
 * whole number, `read_clock()` is the time in ms, `read_clock_us()` in microseconds, and
 * `precedes(a, b)` compares bytes.
 */
export function defineScript<Key extends string, Arg extends string, Reply>(spec: {
  readonly flags: Flags;
  readonly keys: readonly Key[];
  readonly args: readonly Arg[];
  readonly body: string;
  readonly parse: Script<Key, Arg, Reply>["parse"];
}): Script<Key, Arg, Reply> {
  const { flags, keys, args, body, parse } = spec;
  const source = [
    flags === "deny-oom" ? "#!lua" : `#!lua flags=${flags}`,
    ...keys.map((key, i) => `local ${snakeCase(key)} = KEYS[${i + 1}]`),
    ...args.map((arg, i) => `local ${snakeCase(arg)} = ARGV[${i + 2}]`),
    `local first_more = ${args.length + 2}`,
    PRELUDE,
    body,
  ].join("\n");
  const sha1 = createHash("sha1").update(source).digest("hex");
  return { source, sha1, keys, args, parse };
}

/** The arguments of EVAL and EVALSHA after the script. */
export function argumentsOf<Key extends string, Arg extends string>(
  script: Script<Key, Arg, unknown>,
  { keys, args, moreKeys = [], moreArgs = [] }: ScriptCall<Key, Arg>,
  fixedTimeMs: number | undefined,
): readonly [keyCount: number, ...Argument[]] {
  const time = fixedTimeMs === undefined ? "" : Math.round(fixedTimeMs * 1000);
  return [
    script.keys.length + moreKeys.length,
    ...script.keys.map((key) => keys[key]),
    ...moreKeys,
    time,
    ...script.args.map((arg) => args[arg]),
    ...moreArgs,
  ];
}

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** ioredis takes bytes only as Buffers. */
export function toBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
