-- Triggers. `schedules` is a trigger and where it stands, `ticks` its instants, `leaders` who fires.
-- All times are the database's clock, in microseconds.
CREATE TABLE schedules (
    id BLOB NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    -- `file` or `command`.
    origin TEXT NOT NULL,
    -- How new the file was that it comes from.
    stamp INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    -- `active`, `paused`, `ended`, `retired` (a newer file does not name it).
    state TEXT NOT NULL,
    spec TEXT NOT NULL,
    changed INTEGER NOT NULL,
    changed_by TEXT NOT NULL,
    -- Of every instant up to this one it is decided.
    last_instant INTEGER NOT NULL,
    next_instant INTEGER,
    -- When that is fired; none when nothing is to come.
    fire_at INTEGER,
    fired INTEGER NOT NULL,
    -- The job that no other one may overlap, and the instant that waits for its end.
    busy BLOB,
    waiting INTEGER,
    -- How the latest instant ended that did.
    prev_instant INTEGER,
    prev_state TEXT,
    prev_value TEXT
);
CREATE UNIQUE INDEX schedules_name ON schedules (name);
CREATE INDEX schedules_fire ON schedules (fire_at);

CREATE TABLE ticks (
    schedule BLOB NOT NULL,
    instant INTEGER NOT NULL,
    job BLOB NOT NULL,
    -- `due`, `waiting`, `published`, `skipped`, or the state in which its job ended.
    state TEXT NOT NULL,
    fire_at INTEGER NOT NULL,
    -- To be published; a leader that finds it later than this does.
    due INTEGER,
    published INTEGER,
    ended INTEGER,
    note TEXT,
    PRIMARY KEY (schedule, instant)
);
CREATE INDEX ticks_due ON ticks (due);
CREATE INDEX ticks_job ON ticks (job);

CREATE TABLE leaders (
    name TEXT NOT NULL PRIMARY KEY,
    owner BLOB NOT NULL,
    who TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    since INTEGER NOT NULL,
    until INTEGER NOT NULL
);
