-- What groups a job that did not succeed with others like it; NULL for those that have not failed.
ALTER TABLE jobs ADD COLUMN fingerprint TEXT;
-- The version of the program that ran it last.
ALTER TABLE jobs ADD COLUMN version TEXT;
CREATE INDEX jobs_fingerprint ON jobs (fingerprint, created) WHERE fingerprint IS NOT NULL;

ALTER TABLE dead ADD COLUMN fingerprint TEXT NOT NULL DEFAULT '';
ALTER TABLE dead ADD COLUMN version TEXT NOT NULL DEFAULT '';
CREATE INDEX dead_fingerprint ON dead (fingerprint, at);

CREATE TABLE replays (
    id BLOB NOT NULL PRIMARY KEY,
    -- Which jobs, as JSON.
    filter TEXT NOT NULL,
    -- So many in each such time, as JSON; NULL = as fast as it goes.
    rate TEXT,
    who TEXT NOT NULL,
    at INTEGER NOT NULL,
    ended INTEGER,
    state TEXT NOT NULL,
    -- How many matched at the start; NULL = too many to count.
    total INTEGER,
    done INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    -- Behind the last job that was looked at.
    place TEXT NOT NULL,
    -- Jobs that are being published now, with their replay numbers, as JSON.
    pending TEXT NOT NULL,
    -- Counts the changes: who writes with an old one is too late.
    step INTEGER NOT NULL,
    error TEXT
);
CREATE INDEX replays_state ON replays (state, at);
CREATE INDEX replays_at ON replays (at);
