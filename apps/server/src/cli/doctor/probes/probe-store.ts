import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { countSessions, SessiondError, type SessionSurvey, surveySessions } from "@sessiond/core";
import type { RedisNodeReport } from "@sessiond/core/redis";
import { OLD_SCHEMA } from "@sessiond/core/sqlite";
import { pino } from "pino";
import type { ExaminedConfig } from "../../../config/config.js";
import { openStores, type Stores } from "../../../daemon/open-stores.js";
import { PemFault } from "../../../tls/pem-files.js";
import { reasonOf } from "./reason-of.js";

/** How long we read sessions to learn of their keys. */
const SURVEY_BUDGET_MS = 3_000;
/** How long a slow machine may take to connect. */
const CONNECT_BUDGET_MS = 6_000;
const CONNECT_PAUSE_MS = 100;

/** What the store says of itself. */
export type StoreProbe =
  /** It cannot be asked, for a reason that another check names. */
  | { readonly state: "unknown"; readonly why: string }
  /** The next start of a server makes the file, or brings it up to date. */
  | { readonly state: "missing" | "old" }
  | { readonly state: "down"; readonly error: string }
  | {
      readonly state: "up";
      /** Empty for SQLite. */
      readonly nodes: readonly RedisNodeReport[];
      readonly content: StoreContent | { readonly error: string };
    };

interface StoreContent {
  /** How many sessions are active. */
  readonly sessions: number;
  /** Undefined without a keyring. */
  readonly survey: SessionSurvey | undefined;
}

/** Asks the store as a server would, and only reads. Never rejects. */
export async function probeStore({ storeConfig, values }: ExaminedConfig): Promise<StoreProbe> {
  if (storeConfig === undefined)
    return { state: "unknown", why: "the settings say not where it is" };
  const { store: location } = storeConfig;
  const isFile = location.kind === "sqlite" && location.path !== ":memory:";
  if (isFile && !existsSync(location.path)) return { state: "missing" };
  let connectionError: Error | undefined;
  await using opened = new AsyncDisposableStack();
  try {
    const stores = await openStores(storeConfig, pino({ level: "silent" }), {
      readOnly: true,
      onConnectionError: (error) => {
        connectionError = error;
      },
    });
    opened.defer(() => stores.close());
    await checkPatiently(stores, () => connectionError !== undefined);
    const nodes = await stores.readNodeReports();
    const read = async () => ({
      sessions: await countSessions(stores.sessions),
      survey:
        values.keyring && (await surveySessions(stores.sessions, values.keyring, SURVEY_BUDGET_MS)),
    });
    const content = await read().catch((error: unknown) => ({ error: reasonOf(error) }));
    return { state: "up", nodes, content };
  } catch (error) {
    if (error instanceof PemFault) return { state: "unknown", why: "its TLS files are at fault" };
    if (error instanceof SessiondError && error.detail === OLD_SCHEMA) return { state: "old" };
    // The call's own error does not say why there is no connection.
    return { state: "down", error: reasonOf(connectionError ?? error) };
  }
}

/** As long as no attempt has failed, the first one may still be under way. */
async function checkPatiently({ sessions }: Stores, hasFailed: () => boolean): Promise<void> {
  const endMs = performance.now() + CONNECT_BUDGET_MS;
  for (;;) {
    try {
      await sessions.check();
      return;
    } catch (error) {
      if (hasFailed() || performance.now() > endMs) throw error;
      await sleep(CONNECT_PAUSE_MS);
    }
  }
}
