import type { Loan } from "../edge/shared-pool.js";
import { toConnectError } from "../services/rpc-error.js";
import { tooMuchAtOnce } from "./too-much.js";

/**
 * The same body, each chunk of which is charged to `memory` until the client has taken it: whoever
 * writes asks for the next chunk only then. Throws OVERLOADED where there is no room.
 */
export function chargeAnswer(
  body: AsyncIterable<Uint8Array>,
  memory: Loan,
): AsyncIterable<Uint8Array> {
  return {
    [Symbol.asyncIterator]() {
      const iterator = body[Symbol.asyncIterator]();
      let chargedBytes = 0;
      return {
        next: async () => {
          memory.give(chargedBytes);
          const chunk = await iterator.next();
          chargedBytes = chunk.done ? 0 : chunk.value.length;
          if (memory.take(chargedBytes)) return chunk;
          chargedBytes = 0;
          throw toConnectError(tooMuchAtOnce("buffered_bytes"));
        },
        return: async (value) => (await iterator.return?.(value)) ?? { done: true, value },
        throw: async (error) => {
          if (iterator.throw) return iterator.throw(error);
          throw error;
        },
      };
    },
  };
}
