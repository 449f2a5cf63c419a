-- Runs of jobs. `driven` is a run as the part `trigger` knows it, `members` what is still to follow in it,
-- `needs` who waits for whom. `runs.replay` counts how often the run was retried.
SET @change = IF(
    (SELECT COUNT(*) FROM information_schema.columns
     WHERE table_schema = DATABASE() AND table_name = 'runs' AND column_name = 'replay') > 0,
    'DO 0',
    'ALTER TABLE runs ADD COLUMN replay BIGINT NOT NULL DEFAULT 0');
PREPARE made FROM @change;
EXECUTE made;
DEALLOCATE PREPARE made;

CREATE TABLE IF NOT EXISTS driven (
    run BINARY(16) NOT NULL PRIMARY KEY,
    name VARCHAR(500) NOT NULL,
    policy VARCHAR(10) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    replay BIGINT NOT NULL,
    -- 0 its members, 1 compensation, 2 `then`, 3 `finally`, 4 ended.
    phase BIGINT NOT NULL,
    members BIGINT NOT NULL,
    -- Members that have neither ended nor been skipped.
    open BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    -- Counts the ends, so that compensation goes backwards.
    seq BIGINT NOT NULL,
    started BIGINT NOT NULL,
    ended BIGINT,
    problems MEDIUMTEXT NOT NULL,
    -- Its start or end is to be reported; a trigger that finds it later than this does.
    untold BIGINT,
    KEY driven_untold (untold)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS members (
    run BINARY(16) NOT NULL,
    job BINARY(16) NOT NULL,
    place BIGINT NOT NULL,
    name VARCHAR(255) NOT NULL,
    -- 0 a member, 1 the compensation of one, 2 `then`, 3 `finally`.
    role BIGINT NOT NULL,
    -- Whose compensation it is.
    undoes BINARY(16),
    spec MEDIUMTEXT NOT NULL,
    -- How many of its needs have not succeeded.
    missing BIGINT NOT NULL,
    state VARCHAR(10) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    replay BIGINT NOT NULL,
    seq BIGINT,
    value MEDIUMTEXT,
    value_ref VARCHAR(200) CHARACTER SET ascii COLLATE ascii_bin,
    error VARCHAR(500),
    ended BIGINT,
    -- To be published; a trigger that finds it later than this does.
    due BIGINT,
    PRIMARY KEY (run, job),
    KEY members_due (due),
    KEY members_place (run, role, place)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS needs (
    run BINARY(16) NOT NULL,
    need BINARY(16) NOT NULL,
    follower BINARY(16) NOT NULL,
    PRIMARY KEY (run, need, follower),
    KEY needs_follower (run, follower, need)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
