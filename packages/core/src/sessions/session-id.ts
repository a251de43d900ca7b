import { hash, randomBytes } from "node:crypto";

/**
 * Two lowercase hex digits: the first byte of SHA-256(user id). Everything of one user is in one
 * partition, on Redis in one cluster slot.
 */
export type Partition = string;

export const PARTITION_COUNT = 256;

/** All partitions, in order. */
export const PARTITIONS: readonly Partition[] = Array.from({ length: PARTITION_COUNT }, (_, i) =>
  i.toString(16).padStart(2, "0"),
);

const GENERATED_ID = /^[0-9a-f]{64}$/;
const HEX_64 = /^[0-9a-fA-F]{64}$/;
const CHOSEN_ID = /^[A-Za-z0-9._~:@-]{1,128}$/;

/** The partition of a user. */
export function partitionOfUser(userId: string): Partition {
  return hash("sha256", userId, "hex").slice(0, 2);
}

/** A new session id: 64 lowercase hex digits, the partition and 31 bytes of the system's CSPRNG. */
export function generateSessionId(partition: Partition): string {
  return partition + randomBytes(31).toString("hex");
}

/** Whether an id has the shape of a generated one. */
export function isGeneratedId(id: string): boolean {
  return GENERATED_ID.test(id);
}

/** Whether a caller may choose the id. Not 64 hex digits in any case: it would look generated. */
export function isChosenId(id: string): boolean {
  return CHOSEN_ID.test(id) && !HEX_64.test(id);
}
