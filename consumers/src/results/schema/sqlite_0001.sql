CREATE TABLE jobs (
    id BLOB NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    queue TEXT NOT NULL,
    state TEXT NOT NULL,
    replay INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    -- (replay, attempt, rank) as one number: the row moves only forward by it.
    place INTEGER NOT NULL,
    created INTEGER NOT NULL,
    started INTEGER,
    ended INTEGER,
    retry_at INTEGER,
    error TEXT,
    cause TEXT,
    run BLOB,
    member TEXT,
    consumer TEXT,
    host TEXT,
    -- The execution whose report made the row what it is.
    execution BLOB,
    -- The job as published, and of which replay; NULL and -1 until it is known.
    job TEXT,
    job_replay INTEGER NOT NULL,
    -- The recorder's clock at the commit that changed the row last.
    updated INTEGER NOT NULL
);
CREATE INDEX jobs_created ON jobs (created);
CREATE INDEX jobs_state ON jobs (state, created);
CREATE INDEX jobs_queue ON jobs (queue, created);
CREATE INDEX jobs_kind ON jobs (kind, created);
CREATE INDEX jobs_run ON jobs (run, created) WHERE run IS NOT NULL;
CREATE INDEX jobs_updated ON jobs (updated);

CREATE TABLE attempts (
    job BLOB NOT NULL,
    replay INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    execution BLOB NOT NULL,
    state TEXT NOT NULL,
    started INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    report TEXT NOT NULL,
    PRIMARY KEY (job, replay, attempt, execution)
);

CREATE TABLE steps (
    job BLOB NOT NULL,
    step INTEGER NOT NULL,
    run BLOB,
    node TEXT NOT NULL,
    part INTEGER NOT NULL,
    item INTEGER NOT NULL,
    state TEXT NOT NULL,
    started INTEGER NOT NULL,
    micros INTEGER NOT NULL,
    pid INTEGER,
    report TEXT NOT NULL,
    -- Standard output and error; NULL when there was none.
    outputs TEXT,
    PRIMARY KEY (job, step)
);
CREATE INDEX steps_run ON steps (run, node, part, item) WHERE run IS NOT NULL;

CREATE TABLE runs (
    id BLOB NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    members INTEGER NOT NULL,
    steps INTEGER NOT NULL,
    started INTEGER NOT NULL,
    ended INTEGER,
    succeeded INTEGER,
    problems TEXT NOT NULL
);
CREATE INDEX runs_started ON runs (started);

CREATE TABLE dead (
    job BLOB NOT NULL,
    replay INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    kind TEXT NOT NULL,
    queue TEXT NOT NULL,
    reason TEXT NOT NULL,
    at INTEGER NOT NULL,
    consumer TEXT NOT NULL,
    properties TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (job, replay, attempt)
);
CREATE INDEX dead_at ON dead (at);

CREATE TABLE marks (
    name TEXT NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
);
