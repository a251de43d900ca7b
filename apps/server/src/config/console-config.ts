import { parseTrustedUrl } from "../network/trusted-url.js";
import type { ConsoleConfig } from "../transport/console.js";
import { keyOf, type ReadSettings } from "./read-settings.js";
import { SETTINGS, type Values } from "./settings.js";

/** Undefined if the server serves no console. */
export function consoleConfig(values: Values): ConsoleConfig | undefined {
  if (!isServed(values)) return undefined;
  const { consoleClientId: clientId, consoleScope: scope } = values;
  const parameters = values.consoleLoginParameters ?? {};
  return {
    isDevelopment: values.dev && values.auth === undefined,
    login: clientId === undefined ? undefined : { clientId, scope, parameters },
  };
}

/** The faults of a console that nobody could log in to. */
export function consoleFaults({ values, given }: ReadSettings): readonly string[] {
  // Without an auth file, a development server makes the access tokens itself.
  if (!isServed(values) || values.auth === undefined) return [];
  if (!given.has("consoleClientId")) {
    return [`${keyOf(SETTINGS.consoleClientId)}: required with ${keyOf(SETTINGS.console)}`];
  }
  try {
    parseTrustedUrl(values.auth.issuers[0]?.issuer ?? "");
    return [];
  } catch (error) {
    const { message } = error as Error;
    return [`${keyOf(SETTINGS.auth)}: issuers[0].issuer: ${message}, where operators log in`];
  }
}

/** A development server with an auth file prints no link, so its console needs a login, too. */
function isServed({ console, dev, auth, consoleClientId }: Partial<Values>): boolean {
  return console ?? (dev === true && (auth === undefined || consoleClientId !== undefined));
}
