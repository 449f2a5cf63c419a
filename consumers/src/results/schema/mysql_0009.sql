-- What somebody wants to hear of: what is alike within a window of time is one row, which counts.
CREATE TABLE IF NOT EXISTS notices (
    name VARCHAR(100) NOT NULL,
    state VARCHAR(20) NOT NULL,
    fingerprint VARCHAR(16) NOT NULL,
    -- When the window began, in seconds since 1970.
    since BIGINT NOT NULL,
    -- Of the first one; times in microseconds.
    kind VARCHAR(255) NOT NULL,
    queue VARCHAR(255) NOT NULL,
    job BINARY(16) NOT NULL,
    at BIGINT NOT NULL,
    error VARCHAR(500) NOT NULL,
    times BIGINT NOT NULL,
    -- 0 waits, 1 was sent, 2 was given up.
    stage BIGINT NOT NULL DEFAULT 0,
    tries BIGINT NOT NULL DEFAULT 0,
    due BIGINT NOT NULL DEFAULT 0,
    problem VARCHAR(500),
    PRIMARY KEY (name, state, fingerprint, since),
    KEY notices_due (name, stage, due)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
