import { setImmediate } from "node:timers/promises";
import type { Compression } from "@connectrpc/connect/protocol";
import { compressionBrotli, compressionGzip } from "@connectrpc/connect-node";
import type { Edge } from "../edge/edge.js";
import { Loan } from "../edge/shared-pool.js";
import { inflate } from "./inflate.js";

/**
 * Connect's compressions, with a bound on what all requests together inflate to. Connect does not say
 * whose request it is, so all requests of a handler share one share of the memory.
 */
export function boundedCompressions(edge: Edge): Compression[] {
  const share = edge.joinMemory();
  const bounded = (compression: Compression, format: "gzip" | "br"): Compression => ({
    ...compression,
    decompress: async (bytes, maxBytes) => {
      if (bytes.length === 0) return new Uint8Array();
      const memory = new Loan(share);
      try {
        return await inflate(bytes, format, { maxBytes, take: (length) => memory.take(length) });
      } finally {
        // By then Connect has parsed the message, and dropped the bytes.
        setImmediate().then(() => memory.end());
      }
    },
  });
  return [bounded(compressionGzip, "gzip"), bounded(compressionBrotli, "br")];
}
