/** All faults of a configuration at once, each by its key. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  /** One line per fault: `SESSIOND_IDLE_TIMEOUT (--idle-timeout): expected …`. No secrets. */
  readonly faults: readonly string[];

  constructor(faults: readonly string[]) {
    super(faults.join("\n"));
    this.faults = faults;
  }
}
