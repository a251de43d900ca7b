import type { DatabaseSync } from "node:sqlite";

/** Marks a file as one of sessiond's (`PRAGMA application_id`): "sssn". */
const APPLICATION_ID = 0x7373736e;
/** The mark of files that were written before the first schema was final: "ssnd". */
const DEVELOPMENT_ID = 0x73736e64;

/**
 * Each migration brings a file to the next schema version. Never change a released migration.
 *
 * The rows of a namespace begin with its name in every table, and in every index that one call
 * reads. The other indexes are for removing what has ended, whosever it is.
 */
export const MIGRATIONS: readonly string[] = [
  `
  -- end_time_ms is set by a revocation and, after expiry, by the next sweep. It moves a row from
  -- the live_ to the ended_ indexes, so that ended sessions do not slow down queries of active
  -- ones. Expiry itself does not need it: reads compare the deadline.
  CREATE TABLE sessions (
    namespace               TEXT NOT NULL,
    id                      TEXT NOT NULL,
    partition               TEXT NOT NULL,
    user_id                 TEXT NOT NULL,
    create_time_ms          INTEGER NOT NULL,
    authenticate_time_ms    INTEGER NOT NULL,
    last_access_time_ms     INTEGER NOT NULL,
    idle_timeout_ms         INTEGER NOT NULL,
    expire_time_ms          INTEGER NOT NULL,
    absolute_expire_time_ms INTEGER NOT NULL,
    token_create_time_ms    INTEGER NOT NULL,
    store_time_ms           INTEGER NOT NULL,
    version                 INTEGER NOT NULL,
    token_hash              BLOB NOT NULL,
    replaced_tokens         BLOB NOT NULL DEFAULT x'',
    rotation_request        BLOB NOT NULL DEFAULT x'',
    record                  BLOB NOT NULL,
    revoke_time_ms          INTEGER,
    revoke_reason           TEXT,
    end_time_ms             INTEGER,
    PRIMARY KEY (namespace, id)
  ) STRICT;

  CREATE INDEX live_by_user ON sessions (namespace, user_id, create_time_ms, id)
    WHERE end_time_ms IS NULL;
  CREATE INDEX live_by_creation ON sessions (namespace, create_time_ms, id)
    WHERE end_time_ms IS NULL;
  CREATE INDEX live_by_deadline ON sessions (namespace, expire_time_ms)
    WHERE end_time_ms IS NULL;
  CREATE INDEX ended_by_user ON sessions (namespace, user_id, create_time_ms, id)
    WHERE end_time_ms IS NOT NULL;
  CREATE INDEX ended_by_creation ON sessions (namespace, create_time_ms, id)
    WHERE end_time_ms IS NOT NULL;
  CREATE INDEX ended_by_end ON sessions (end_time_ms) WHERE end_time_ms IS NOT NULL;

  -- The newest fencing token of each lock that fenced an update of the session.
  CREATE TABLE session_fences (
    namespace  TEXT NOT NULL,
    session_id TEXT NOT NULL,
    lock       TEXT NOT NULL,
    token      INTEGER NOT NULL,
    PRIMARY KEY (namespace, session_id, lock),
    FOREIGN KEY (namespace, session_id) REFERENCES sessions (namespace, id) ON DELETE CASCADE
  ) STRICT, WITHOUT ROWID;

  -- Positions tell the age of events of all namespaces, for trimming. AUTOINCREMENT never reuses
  -- one. The sequences of a namespace are consecutive: a failed transaction rolls them back.
  CREATE TABLE session_events (
    position   INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace  TEXT NOT NULL,
    sequence   INTEGER NOT NULL,
    time_ms    INTEGER NOT NULL,
    type       TEXT NOT NULL,
    session_id TEXT NOT NULL,
    user_id    TEXT NOT NULL,
    version    INTEGER NOT NULL,
    reason     TEXT
  ) STRICT;

  CREATE UNIQUE INDEX session_events_by_sequence ON session_events (namespace, sequence);

  -- The last sequence of each namespace that ever had an event. One count for all would tell a
  -- namespace how busy the others are.
  CREATE TABLE event_ends (
    namespace TEXT NOT NULL PRIMARY KEY,
    sequence  INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;

  -- Where the sequences of every namespace begin. A reader with a position in a deleted file must
  -- not take the events of a new file for the events it missed. So each file begins at a random
  -- 32-bit number times 2^20. That leaves a million events between two files' beginnings, and half
  -- of 2^53 for later events.
  CREATE TABLE event_start (sequence INTEGER NOT NULL) STRICT;
  INSERT INTO event_start (sequence) VALUES ((random() & 0xffffffff) * 0x100000);

  -- The results of requests that take effect at most once. session_store_time_ms tells the session
  -- from a later one with the same id.
  CREATE TABLE requests (
    namespace              TEXT NOT NULL,
    key                    TEXT NOT NULL,
    partition              TEXT NOT NULL,
    session_id             TEXT NOT NULL,
    session_store_time_ms  INTEGER NOT NULL,
    record                 BLOB NOT NULL,
    evicted_ids            TEXT NOT NULL,
    expire_time_ms         INTEGER NOT NULL,
    PRIMARY KEY (namespace, key)
  ) STRICT;

  CREATE INDEX requests_by_expiry ON requests (expire_time_ms);

  -- The attempts that rate limits count. total is the cost of this and all earlier attempts of the
  -- key. From expire_time_ms on an attempt counts no more.
  CREATE TABLE rate_limit_attempts (
    namespace      TEXT NOT NULL,
    key            TEXT NOT NULL,
    time_ms        INTEGER NOT NULL,
    total          INTEGER NOT NULL,
    cost           INTEGER NOT NULL,
    expire_time_ms INTEGER NOT NULL,
    PRIMARY KEY (namespace, key, time_ms, total)
  ) STRICT, WITHOUT ROWID;

  CREATE INDEX rate_limit_attempts_by_expiry ON rate_limit_attempts (expire_time_ms);

  -- A lock, or the last fencing token of an earlier lock. lock_id is NULL after a release. A lease
  -- that ended by itself shows only in expire_time_ms. A row is removed long after the lease.
  CREATE TABLE locks (
    namespace      TEXT NOT NULL,
    name           TEXT NOT NULL,
    lock_id        TEXT,
    fencing_token  INTEGER NOT NULL,
    expire_time_ms INTEGER NOT NULL,
    forget_time_ms INTEGER NOT NULL,
    PRIMARY KEY (namespace, name)
  ) STRICT;

  CREATE INDEX locks_by_forgetting ON locks (forget_time_ms);
  `,
  `
  -- The latest time at which any server wrote. No later write is earlier, whatever the wall clock
  -- says.
  CREATE TABLE clock (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    time_ms INTEGER NOT NULL
  ) STRICT;

  INSERT INTO clock VALUES (1, 0);
  `,
  `
  ALTER TABLE session_events ADD COLUMN changed_by TEXT NOT NULL DEFAULT '';
  `,
];

/**
 * Brings a database to the newest schema. Throws an Error for a database of a newer version, of
 * a version before the first release, or of another application.
 */
export function migrate(db: DatabaseSync, migrations: readonly string[] = MIGRATIONS): void {
  db.exec("BEGIN IMMEDIATE");
  try {
    const missing = assertOurs(db, migrations);
    // Write nothing needlessly: a server must start on a full disk too.
    if (missing === 0) return;
    for (const migration of migrations.slice(-missing)) db.exec(migration);
    db.exec(`PRAGMA application_id = ${APPLICATION_ID}`);
    db.exec(`PRAGMA user_version = ${migrations.length}`);
    db.exec("COMMIT");
  } finally {
    if (db.isTransaction) db.exec("ROLLBACK");
  }
}

/** Answers how many migrations the database lacks. Throws as `migrate` does. */
export function assertOurs(db: DatabaseSync, migrations: readonly string[] = MIGRATIONS): number {
  const version = pragma(db, "user_version");
  const newestVersion = migrations.length;
  const isEmpty = db.prepare("SELECT 1 FROM sqlite_schema LIMIT 1").get() === undefined;
  const applicationId = pragma(db, "application_id");
  if (applicationId === DEVELOPMENT_ID) {
    throw new Error(
      "it was written by a development version of sessiond, before its first release; " +
        "move the file away, and the server begins with an empty one",
    );
  }
  if (!isEmpty && applicationId !== APPLICATION_ID) {
    throw new Error("it is the database of another application");
  }
  if (version > newestVersion) {
    throw new Error(
      `it was written by a newer version of sessiond (schema ${version}; ` +
        `this version knows schemas up to ${newestVersion})`,
    );
  }
  return newestVersion - version;
}

function pragma(db: DatabaseSync, name: "user_version" | "application_id"): number {
  return Number(db.prepare(`PRAGMA ${name}`).get()?.[name]);
}
