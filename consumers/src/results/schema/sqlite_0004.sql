-- Runs of jobs. `driven` is a run as the part `trigger` knows it, `members` what is still to follow in it,
-- `needs` who waits for whom. `runs.replay` counts how often the run was retried.
ALTER TABLE runs ADD COLUMN replay INTEGER NOT NULL DEFAULT 0;

CREATE TABLE driven (
    run BLOB NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    policy TEXT NOT NULL,
    replay INTEGER NOT NULL,
    -- 0 its members, 1 compensation, 2 `then`, 3 `finally`, 4 ended.
    phase INTEGER NOT NULL,
    members INTEGER NOT NULL,
    -- Members that have neither ended nor been skipped.
    open INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    -- Counts the ends, so that compensation goes backwards.
    seq INTEGER NOT NULL,
    started INTEGER NOT NULL,
    ended INTEGER,
    problems TEXT NOT NULL,
    -- Its start or end is to be reported; a trigger that finds it later than this does.
    untold INTEGER
);
CREATE INDEX driven_untold ON driven (untold);

CREATE TABLE members (
    run BLOB NOT NULL,
    job BLOB NOT NULL,
    place INTEGER NOT NULL,
    name TEXT NOT NULL,
    -- 0 a member, 1 the compensation of one, 2 `then`, 3 `finally`.
    role INTEGER NOT NULL,
    -- Whose compensation it is.
    undoes BLOB,
    spec TEXT NOT NULL,
    -- How many of its needs have not succeeded.
    missing INTEGER NOT NULL,
    state TEXT NOT NULL,
    replay INTEGER NOT NULL,
    seq INTEGER,
    value TEXT,
    value_ref TEXT,
    error TEXT,
    ended INTEGER,
    -- To be published; a trigger that finds it later than this does.
    due INTEGER,
    PRIMARY KEY (run, job)
);
CREATE INDEX members_due ON members (due);
CREATE INDEX members_place ON members (run, role, place);

CREATE TABLE needs (
    run BLOB NOT NULL,
    need BLOB NOT NULL,
    follower BLOB NOT NULL,
    PRIMARY KEY (run, need, follower)
);
CREATE INDEX needs_follower ON needs (run, follower, need);
