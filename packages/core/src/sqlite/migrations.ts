import type { DatabaseSync } from "node:sqlite";

/** Marks a file as one of sessiond's (`PRAGMA application_id`): "ssnd". */
const APPLICATION_ID = 0x73736e64;

/** Each migration brings a file to the next schema version. Never change a released migration. */
export const MIGRATIONS: readonly string[] = [
  `
  -- end_time_ms is set by a revocation and, after expiry, by the next sweep. It moves a row from
  -- the live_ to the ended_ indexes, so that ended sessions do not slow down queries of active
  -- ones. Expiry itself does not need it: reads compare the deadline.
  CREATE TABLE sessions (
    id                      TEXT NOT NULL PRIMARY KEY,
    partition               TEXT NOT NULL,
    user_id                 TEXT NOT NULL,
    create_time_ms          INTEGER NOT NULL,
    authenticate_time_ms    INTEGER NOT NULL,
    last_access_time_ms     INTEGER NOT NULL,
    idle_timeout_ms         INTEGER NOT NULL,
    expire_time_ms          INTEGER NOT NULL,
    absolute_expire_time_ms INTEGER NOT NULL,
    token_create_time_ms    INTEGER NOT NULL,
    version                 INTEGER NOT NULL,
    token_hash              BLOB NOT NULL,
    replaced_tokens         BLOB NOT NULL DEFAULT x'',
    record                  BLOB NOT NULL,
    revoke_time_ms          INTEGER,
    revoke_reason           TEXT,
    end_time_ms             INTEGER
  ) STRICT;

  CREATE INDEX live_by_user ON sessions (user_id, create_time_ms, id) WHERE end_time_ms IS NULL;
  CREATE INDEX live_by_creation ON sessions (create_time_ms, id) WHERE end_time_ms IS NULL;
  CREATE INDEX live_by_deadline ON sessions (expire_time_ms) WHERE end_time_ms IS NULL;
  CREATE INDEX ended_by_user ON sessions (user_id, create_time_ms, id) WHERE end_time_ms IS NOT NULL;
  CREATE INDEX ended_by_creation ON sessions (create_time_ms, id) WHERE end_time_ms IS NOT NULL;
  CREATE INDEX ended_by_end ON sessions (end_time_ms) WHERE end_time_ms IS NOT NULL;
  `,
  `
  -- Sequences are consecutive: AUTOINCREMENT never reuses a number, also of a removed row, and a
  -- failed transaction rolls its counter back. Trimming goes by the sequence too, so no other index
  -- is needed.
  CREATE TABLE session_events (
    sequence   INTEGER PRIMARY KEY AUTOINCREMENT,
    time_ms    INTEGER NOT NULL,
    type       TEXT NOT NULL,
    session_id TEXT NOT NULL,
    user_id    TEXT NOT NULL,
    version    INTEGER NOT NULL,
    reason     TEXT
  ) STRICT;

  -- A reader with a position in a deleted file must not take the events of a new file for the
  -- events it missed. So each file begins at a random 32-bit number times 2^20. That leaves a
  -- million events between two files' beginnings, and half of 2^53 for later events.
  INSERT INTO sqlite_sequence (name, seq)
  VALUES ('session_events', (random() & 0xffffffff) * 0x100000);

  -- The results of requests that take effect at most once. session_create_time_ms tells the session
  -- from a later one with the same id.
  CREATE TABLE requests (
    key                    TEXT NOT NULL PRIMARY KEY,
    partition              TEXT NOT NULL,
    session_id             TEXT NOT NULL,
    session_create_time_ms INTEGER NOT NULL,
    record                 BLOB NOT NULL,
    evicted_ids            TEXT NOT NULL,
    expire_time_ms         INTEGER NOT NULL
  ) STRICT;

  CREATE INDEX requests_by_expiry ON requests (expire_time_ms);
  `,
  `
  -- The attempts that rate limits count. total is the cost of this and all earlier attempts of the
  -- key. From expire_time_ms on an attempt counts no more.
  CREATE TABLE rate_limit_attempts (
    key            TEXT NOT NULL,
    time_ms        INTEGER NOT NULL,
    total          INTEGER NOT NULL,
    cost           INTEGER NOT NULL,
    expire_time_ms INTEGER NOT NULL,
    PRIMARY KEY (key, time_ms, total)
  ) STRICT, WITHOUT ROWID;

  CREATE INDEX rate_limit_attempts_by_expiry ON rate_limit_attempts (expire_time_ms);
  `,
  `
  -- A lock, or the last fencing token of an earlier lock. lock_id is NULL after a release. A lease
  -- that ended by itself shows only in expire_time_ms. A row is removed long after the lease.
  CREATE TABLE locks (
    name           TEXT NOT NULL PRIMARY KEY,
    lock_id        TEXT,
    fencing_token  INTEGER NOT NULL,
    expire_time_ms INTEGER NOT NULL,
    forget_time_ms INTEGER NOT NULL
  ) STRICT;

  CREATE INDEX locks_by_forgetting ON locks (forget_time_ms);

  -- The newest fencing token of each lock that fenced an update of the session.
  CREATE TABLE session_fences (
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    lock       TEXT NOT NULL,
    token      INTEGER NOT NULL,
    PRIMARY KEY (session_id, lock)
  ) STRICT, WITHOUT ROWID;
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
];

/**
 * Brings a database to the newest schema. Throws an Error for a database of a newer version or of
 * another application.
 */
export function migrate(db: DatabaseSync, migrations: readonly string[] = MIGRATIONS): void {
  db.exec("BEGIN IMMEDIATE");
  try {
    const version = pragma(db, "user_version");
    assertOurs(db, version, migrations.length);
    // Write nothing needlessly: a server must start on a full disk too.
    if (version === migrations.length) return;
    for (const migration of migrations.slice(version)) db.exec(migration);
    db.exec(`PRAGMA application_id = ${APPLICATION_ID}`);
    db.exec(`PRAGMA user_version = ${migrations.length}`);
    db.exec("COMMIT");
  } finally {
    if (db.isTransaction) db.exec("ROLLBACK");
  }
}

function assertOurs(db: DatabaseSync, version: number, newestVersion: number): void {
  const isEmpty = db.prepare("SELECT 1 FROM sqlite_schema LIMIT 1").get() === undefined;
  if (!isEmpty && pragma(db, "application_id") !== APPLICATION_ID) {
    throw new Error("it is the database of another application");
  }
  if (version > newestVersion) {
    throw new Error(
      `it was written by a newer version of sessiond (schema ${version}; ` +
        `this version knows schemas up to ${newestVersion})`,
    );
  }
}

function pragma(db: DatabaseSync, name: "user_version" | "application_id"): number {
  return Number(db.prepare(`PRAGMA ${name}`).get()?.[name]);
}
