import { type Cluster, Command, type Redis } from "ioredis";
import type { Argument } from "./script.js";

/**
 * Calls `late` unless it is cancelled within `ms`. A blocked event loop runs its overdue timers
 * before it reads its sockets, so the answer may be there already. So it first reads: a healthy
 * Redis is not blamed for our own delay. Answers the function that cancels.
 */
export function afterSilence(ms: number, late: () => void): () => void {
  let reading: NodeJS.Immediate | undefined;
  const timer = setTimeout(() => {
    reading = setImmediate(late);
  }, ms);
  return () => {
    clearTimeout(timer);
    clearImmediate(reading);
  };
}

/** A command with such a time limit, which ioredis calls for. */
class PatientCommand extends Command {
  override setTimeout(ms: number): void {
    const cancel = afterSilence(ms, () => this.reject(new Error("Command timed out")));
    this.promise.then(cancel, cancel);
  }
}

/** Sends a command, and answers its reply in Buffers. */
export function sendPatiently(
  redis: Redis | Cluster,
  name: string,
  args: Argument[],
): Promise<unknown> {
  const command = new PatientCommand(name, args, { replyEncoding: null });
  redis.sendCommand(command);
  return command.promise;
}
