import type { DatabaseSync } from "node:sqlite";

/** Marks a file as one of sessiond's (`PRAGMA application_id`): "ssnd". */
const APPLICATION_ID = 0x73736e64;

/**
 * What brings a file from each schema version to the next. A migration that has
 * been released is never changed; a new one is added at the end.
 */
export const MIGRATIONS: readonly string[] = [
  `
  -- end_time_ms is when the session was revoked or, once a sweep has noticed, when
  -- it expired. A row is in the live_ indexes until then and in the ended_ ones
  -- after, so that the ended do not slow down what concerns the active. Only
  -- revocation ends a session through this column: reads go by the deadline.
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
    version                 INTEGER NOT NULL,
    token_hash              BLOB NOT NULL,
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
  -- Consecutive numbers: AUTOINCREMENT never gives one out twice, not even that of
  -- a row that was removed, and its counter is rolled back with a transaction that
  -- fails. Trimming goes by the number as well, so no other index is needed.
  CREATE TABLE session_events (
    sequence   INTEGER PRIMARY KEY AUTOINCREMENT,
    time_ms    INTEGER NOT NULL,
    type       TEXT NOT NULL,
    session_id TEXT NOT NULL,
    user_id    TEXT NOT NULL,
    version    INTEGER NOT NULL,
    reason     TEXT
  ) STRICT;

  -- A reader that comes back with its place in a file that was deleted and made anew
  -- must not take this one's events for what it missed. So the numbers of each file
  -- begin somewhere else: at a random 32-bit number times 2^20, which leaves a million
  -- events between the beginnings of two files, and half of the 2^53 that JavaScript
  -- counts exactly for those to come.
  INSERT INTO sqlite_sequence (name, seq)
  VALUES ('session_events', (random() & 0xffffffff) * 0x100000);

  -- What requests that must take effect at most once did. session_create_time_ms
  -- tells the session from a later one that was given the same id.
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
  -- The attempts that rate limits count. total is the cost of an attempt and of all before
  -- it of the same key; an attempt counts no more from expire_time_ms on.
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
  -- A lock, or what is left of one: the last fencing token, which the next is to be
  -- above. lock_id is NULL once it was released; a lease that ended by itself is told
  -- by its deadline. A row is forgotten long after the lease has ended.
  CREATE TABLE locks (
    name           TEXT NOT NULL PRIMARY KEY,
    lock_id        TEXT,
    fencing_token  INTEGER NOT NULL,
    expire_time_ms INTEGER NOT NULL,
    forget_time_ms INTEGER NOT NULL
  ) STRICT;

  CREATE INDEX locks_by_forgetting ON locks (forget_time_ms);

  -- The newest token of each lock that an update of the session came with.
  CREATE TABLE session_fences (
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    lock       TEXT NOT NULL,
    token      INTEGER NOT NULL,
    PRIMARY KEY (session_id, lock)
  ) STRICT, WITHOUT ROWID;
  `,
];

/**
 * Brings a database to the newest schema. Throws an Error for one that a newer
 * version has written, and for one that is not sessiond's.
 */
export function migrate(db: DatabaseSync, migrations: readonly string[] = MIGRATIONS): void {
  db.exec("BEGIN IMMEDIATE");
  try {
    const version = pragma(db, "user_version");
    assertOurs(db, version, migrations.length);
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
