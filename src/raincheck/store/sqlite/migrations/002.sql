-- Which group a job is of: a run, or one of its members.
ALTER TABLE job ADD COLUMN "group" TEXT;
CREATE INDEX job_by_group ON job ("group", n) WHERE "group" IS NOT NULL;
