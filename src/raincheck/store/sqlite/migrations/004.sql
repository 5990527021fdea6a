-- Large results of steps, kept beside the records of their jobs (docs/decisions/0015).
CREATE TABLE result (
    job   INTEGER NOT NULL,
    step  INTEGER NOT NULL,
    value BLOB    NOT NULL,
    PRIMARY KEY (job, step)
);
