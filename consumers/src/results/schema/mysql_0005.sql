-- Triggers. `schedules` is a trigger and where it stands, `ticks` its instants, `leaders` who fires.
-- All times are the database's clock, in microseconds.
CREATE TABLE IF NOT EXISTS schedules (
    id BINARY(16) NOT NULL PRIMARY KEY,
    name VARCHAR(100) NOT NULL,
    -- `file` or `command`.
    origin VARCHAR(10) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- How new the file was that it comes from.
    stamp BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    -- `active`, `paused`, `ended`, `retired` (a newer file does not name it).
    state VARCHAR(10) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    spec MEDIUMTEXT NOT NULL,
    changed BIGINT NOT NULL,
    changed_by VARCHAR(255) NOT NULL,
    -- Of every instant up to this one it is decided.
    last_instant BIGINT NOT NULL,
    next_instant BIGINT,
    -- When that is fired; none when nothing is to come.
    fire_at BIGINT,
    fired BIGINT NOT NULL,
    -- The job that no other one may overlap, and the instant that waits for its end.
    busy BINARY(16),
    waiting BIGINT,
    -- How the latest instant ended that did.
    prev_instant BIGINT,
    prev_state VARCHAR(10) CHARACTER SET ascii COLLATE ascii_bin,
    prev_value MEDIUMTEXT,
    UNIQUE KEY schedules_name (name),
    KEY schedules_fire (fire_at)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS ticks (
    schedule BINARY(16) NOT NULL,
    instant BIGINT NOT NULL,
    job BINARY(16) NOT NULL,
    -- `due`, `waiting`, `published`, `skipped`, or the state in which its job ended.
    state VARCHAR(10) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    fire_at BIGINT NOT NULL,
    -- To be published; a leader that finds it later than this does.
    due BIGINT,
    published BIGINT,
    ended BIGINT,
    note VARCHAR(500),
    PRIMARY KEY (schedule, instant),
    KEY ticks_due (due),
    KEY ticks_job (job)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS leaders (
    name VARCHAR(50) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    owner BINARY(16) NOT NULL,
    who VARCHAR(255) NOT NULL,
    epoch BIGINT NOT NULL,
    since BIGINT NOT NULL,
    until BIGINT NOT NULL
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
