/** pino's levels, from everything to nothing. */
export const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;

export type LogLevel = (typeof LOG_LEVELS)[number];

/** Everything, or only what was refused or looks like an attack. */
export const AUDIT_LEVELS = ["info", "warn"] as const;

export type AuditLevel = (typeof AUDIT_LEVELS)[number];
