/** One thing that an operator decides. */
export interface Setting {
  /** Its section in docs/configuration.md. */
  readonly group:
    | "Listening"
    | "Store"
    | "Sessions and rate limits"
    | "Load"
    | "Bounds"
    | "Keys and access"
    | "Console"
    | "Observability";
  readonly env: string;
  readonly flag: string;
  /** What stands for the value. A flag without one is a switch: alone, it means `true`. */
  readonly placeholder?: string;
  /** As text, as in a variable. Without a default, the value may be undefined. */
  readonly default?: string;
  /** What it decides. Values are in backticks, which --help leaves out. */
  readonly help: string;
  /** Markdown that only docs/configuration.md has. */
  readonly details?: string;
  /** Set if the value may contain a secret, which a fault must not repeat. */
  readonly secret?: true;
  /**
   * The value or a promise of it. Throws an Error that says what was expected, or a
   * ConfigError with several faults.
   */
  readonly parse: (text: string) => unknown;
}
