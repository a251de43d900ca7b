/**
 * Runs `work` and does something around it, such as to measure it. Answers what `work` answers, and
 * throws what it throws.
 */
export type Around = <T>(work: () => Promise<T>) => Promise<T>;
