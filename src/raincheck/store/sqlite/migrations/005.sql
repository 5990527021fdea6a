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
