-- What somebody wants to hear of: what is alike within a window of time is one row, which counts.
CREATE TABLE notices (
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    -- When the window began, in seconds since 1970.
    since INTEGER NOT NULL,
    -- Of the first one; times in microseconds.
    kind TEXT NOT NULL,
    queue TEXT NOT NULL,
    job BLOB NOT NULL,
    at INTEGER NOT NULL,
    error TEXT NOT NULL,
    times INTEGER NOT NULL,
    -- 0 waits, 1 was sent, 2 was given up.
    stage INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0,
    due INTEGER NOT NULL DEFAULT 0,
    problem TEXT,
    PRIMARY KEY (name, state, fingerprint, since)
);
CREATE INDEX notices_due ON notices (name, stage, due);
