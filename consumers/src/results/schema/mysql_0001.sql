CREATE TABLE IF NOT EXISTS jobs (
    id BINARY(16) NOT NULL PRIMARY KEY,
    kind VARCHAR(255) NOT NULL,
    queue VARCHAR(255) NOT NULL,
    state VARCHAR(10) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    replay BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    -- (replay, attempt, rank) as one number: the row moves only forward by it.
    place BIGINT NOT NULL,
    created BIGINT NOT NULL,
    started BIGINT,
    ended BIGINT,
    retry_at BIGINT,
    error VARCHAR(500),
    cause VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin,
    run BINARY(16),
    member VARCHAR(255),
    consumer VARCHAR(255),
    host VARCHAR(255),
    -- The execution whose report made the row what it is.
    execution BINARY(16),
    -- The job as published, and of which replay; NULL and -1 until it is known.
    job MEDIUMTEXT,
    job_replay BIGINT NOT NULL,
    -- The recorder's clock at the commit that changed the row last.
    updated BIGINT NOT NULL,
    KEY jobs_created (created),
    KEY jobs_state (state, created),
    KEY jobs_queue (queue, created),
    KEY jobs_kind (kind, created),
    KEY jobs_run (run, created),
    KEY jobs_updated (updated)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS attempts (
    job BINARY(16) NOT NULL,
    replay BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    execution BINARY(16) NOT NULL,
    state VARCHAR(10) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    started BIGINT NOT NULL,
    ended BIGINT NOT NULL,
    report MEDIUMTEXT NOT NULL,
    PRIMARY KEY (job, replay, attempt, execution)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS steps (
    job BINARY(16) NOT NULL,
    step BIGINT NOT NULL,
    run BINARY(16),
    node VARCHAR(255) NOT NULL,
    part BIGINT NOT NULL,
    item BIGINT NOT NULL,
    state VARCHAR(12) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    started BIGINT NOT NULL,
    micros BIGINT NOT NULL,
    pid BIGINT,
    report MEDIUMTEXT NOT NULL,
    -- Standard output and error; NULL when there was none.
    outputs MEDIUMTEXT,
    PRIMARY KEY (job, step),
    KEY steps_run (run, node, part, item)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS runs (
    id BINARY(16) NOT NULL PRIMARY KEY,
    name VARCHAR(500) NOT NULL,
    members BIGINT NOT NULL,
    steps BIGINT NOT NULL,
    started BIGINT NOT NULL,
    ended BIGINT,
    succeeded BIGINT,
    problems MEDIUMTEXT NOT NULL,
    KEY runs_started (started)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS dead (
    job BINARY(16) NOT NULL,
    replay BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    kind VARCHAR(255) NOT NULL,
    queue VARCHAR(255) NOT NULL,
    reason MEDIUMTEXT NOT NULL,
    at BIGINT NOT NULL,
    consumer VARCHAR(255) NOT NULL,
    properties MEDIUMTEXT NOT NULL,
    body MEDIUMBLOB NOT NULL,
    PRIMARY KEY (job, replay, attempt),
    KEY dead_at (at)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS marks (
    name VARCHAR(100) NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
