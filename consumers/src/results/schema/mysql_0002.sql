-- A change of a table is committed by itself, so that one which was cut in the middle is made again:
-- each is made only where it is missing. One statement a table, so that none is half made.
-- `fingerprint` groups a job that did not succeed with others like it, NULL for those that have not
-- failed; `version` is that of the program that ran it last.
SET @change = IF(
    (SELECT COUNT(*) FROM information_schema.columns
     WHERE table_schema = DATABASE() AND table_name = 'jobs' AND column_name = 'fingerprint') > 0,
    'DO 0',
    'ALTER TABLE jobs ADD COLUMN fingerprint VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin,
     ADD COLUMN version VARCHAR(100), ADD KEY jobs_fingerprint (fingerprint, created)');
PREPARE made FROM @change;
EXECUTE made;
DEALLOCATE PREPARE made;

SET @change = IF(
    (SELECT COUNT(*) FROM information_schema.columns
     WHERE table_schema = DATABASE() AND table_name = 'dead' AND column_name = 'fingerprint') > 0,
    'DO 0',
    'ALTER TABLE dead ADD COLUMN fingerprint VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '''',
     ADD COLUMN version VARCHAR(100) NOT NULL DEFAULT '''', ADD KEY dead_fingerprint (fingerprint, at)');
PREPARE made FROM @change;
EXECUTE made;
DEALLOCATE PREPARE made;

CREATE TABLE IF NOT EXISTS replays (
    id BINARY(16) NOT NULL PRIMARY KEY,
    -- Which jobs, as JSON.
    filter MEDIUMTEXT NOT NULL,
    -- So many in each such time, as JSON; NULL = as fast as it goes.
    rate VARCHAR(100),
    who VARCHAR(255) NOT NULL,
    at BIGINT NOT NULL,
    ended BIGINT,
    state VARCHAR(10) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- How many matched at the start; NULL = too many to count.
    total BIGINT,
    done BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    -- Behind the last job that was looked at.
    place VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- Jobs that are being published now, with their replay numbers, as JSON.
    pending MEDIUMTEXT NOT NULL,
    -- Counts the changes: who writes with an old one is too late.
    step BIGINT NOT NULL,
    error VARCHAR(500),
    KEY replays_state (state, at),
    KEY replays_at (at)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
