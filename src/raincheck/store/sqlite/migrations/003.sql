-- Schedules: what submits jobs again and again.
CREATE TABLE schedule (
    name   TEXT    PRIMARY KEY,
    id     TEXT    NOT NULL,
    rev    INTEGER NOT NULL,
    due    REAL,
    record BLOB    NOT NULL
) WITHOUT ROWID;
CREATE INDEX schedule_by_due ON schedule (due) WHERE due IS NOT NULL;
