-- Jobs that wait for their time. The database's clock, in microseconds.
CREATE TABLE timers (
    job BLOB NOT NULL PRIMARY KEY,
    -- 0 waits, 1 is being published, 2 was cancelled.
    state INTEGER NOT NULL,
    -- When the leader has something to do with it.
    fire_at INTEGER NOT NULL,
    -- When it was to start.
    due INTEGER NOT NULL,
    queue TEXT NOT NULL,
    kind TEXT NOT NULL,
    run BLOB,
    spec TEXT NOT NULL,
    revision INTEGER NOT NULL,
    -- Who published, edited or cancelled it, and when; why, of a cancel.
    changed INTEGER NOT NULL,
    changed_by TEXT NOT NULL,
    why TEXT
);
CREATE INDEX timers_due ON timers (state, fire_at, job, queue, kind);
CREATE INDEX timers_run ON timers (run) WHERE run IS NOT NULL;
-- What a file no longer names is found without a look at every trigger.
CREATE INDEX schedules_origin ON schedules (origin, stamp);
