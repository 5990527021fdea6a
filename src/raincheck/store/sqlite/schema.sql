-- Version 5, as a new file gets it. What older files lack is in migrations/NNN.sql, applied in order, forward only.

-- One row a store: its version, and the last token given out.
CREATE TABLE meta (
    version INTEGER NOT NULL,
    token   INTEGER NOT NULL
);

-- Every job that is not pruned. `n` is the order of arrival; `state` is the state at rest.
CREATE TABLE job (
    n      INTEGER PRIMARY KEY,
    id     TEXT    NOT NULL UNIQUE,
    rev    INTEGER NOT NULL,
    state  TEXT    NOT NULL,
    ended  INTEGER NOT NULL,
    name   TEXT    NOT NULL,
    alarm  REAL,
    record BLOB    NOT NULL,
    "group" TEXT
);
CREATE INDEX job_by_state ON job (state, n);
CREATE INDEX job_by_name  ON job (name, n);
CREATE INDEX job_by_group ON job ("group", n) WHERE "group" IS NOT NULL;
CREATE INDEX job_to_wake  ON job (alarm) WHERE NOT ended AND alarm IS NOT NULL;
CREATE INDEX job_to_prune ON job (alarm) WHERE ended;

-- Large results of steps, kept beside the records of their jobs (docs/decisions/0015).
CREATE TABLE result (
    job   INTEGER NOT NULL,
    step  INTEGER NOT NULL,
    value BLOB    NOT NULL,
    PRIMARY KEY (job, step)
);

-- The journals of jobs, kept beside their records (docs/decisions/0017). `step` is -1 in an entry about the whole job.
CREATE TABLE journal (
    job    INTEGER NOT NULL,
    number INTEGER NOT NULL,
    kind   TEXT    NOT NULL,
    step   INTEGER NOT NULL,
    value  BLOB    NOT NULL,
    PRIMARY KEY (job, number)
);
CREATE INDEX journal_by_step ON journal (job, kind, step, number);

-- Which jobs have a step of a function.
CREATE TABLE job_function (
    function TEXT    NOT NULL,
    job      INTEGER NOT NULL,
    PRIMARY KEY (function, job)
) WITHOUT ROWID;

-- Places in the queues, in the order they are claimed; `priority` is negated, so that it sorts so.
CREATE TABLE queue (
    function TEXT    NOT NULL,
    priority INTEGER NOT NULL,
    due      REAL    NOT NULL,
    job      INTEGER NOT NULL,
    step     INTEGER NOT NULL,
    PRIMARY KEY (function, priority, due, job, step)
) WITHOUT ROWID;

-- Steps in the hands of workers, each with the place it was claimed from.
CREATE TABLE lease (
    job      INTEGER NOT NULL,
    step     INTEGER NOT NULL,
    token    INTEGER NOT NULL,
    worker   TEXT    NOT NULL,
    since    REAL    NOT NULL,
    until    REAL    NOT NULL,
    function TEXT    NOT NULL,
    priority INTEGER NOT NULL,
    due      REAL    NOT NULL,
    progress BLOB,
    PRIMARY KEY (job, step)
) WITHOUT ROWID;

-- How many, so that nothing has to be counted: jobs by state at rest.
CREATE TABLE tally (
    state TEXT    PRIMARY KEY,
    jobs  INTEGER NOT NULL
) WITHOUT ROWID;

-- How many places the queue of a function has, and the last token given out for it (0: none).
CREATE TABLE function (
    name   TEXT    PRIMARY KEY,
    places INTEGER NOT NULL,
    served INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE idempotency (
    key         TEXT PRIMARY KEY,
    job_id      TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    until       REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX idempotency_to_prune ON idempotency (until);

-- Ids of pruned jobs, remembered for a while.
CREATE TABLE gone (
    id    TEXT PRIMARY KEY,
    until REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX gone_to_prune ON gone (until);

CREATE TABLE worker (
    id     TEXT PRIMARY KEY,
    info   BLOB NOT NULL,
    seen   REAL NOT NULL,
    until  REAL NOT NULL
) WITHOUT ROWID;

-- Schedules; `id` and `rev` guard each change, and `due` is empty while there is nothing to wait for.
CREATE TABLE schedule (
    name   TEXT    PRIMARY KEY,
    id     TEXT    NOT NULL,
    rev    INTEGER NOT NULL,
    due    REAL,
    record BLOB    NOT NULL
) WITHOUT ROWID;
CREATE INDEX schedule_by_due ON schedule (due) WHERE due IS NOT NULL;

INSERT INTO meta (version, token) VALUES (5, 0);
