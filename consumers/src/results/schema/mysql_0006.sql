-- Jobs that wait for their time. The database's clock, in microseconds.
CREATE TABLE IF NOT EXISTS timers (
    job BINARY(16) NOT NULL PRIMARY KEY,
    -- 0 waits, 1 is being published, 2 was cancelled.
    state BIGINT NOT NULL,
    -- When the leader has something to do with it.
    fire_at BIGINT NOT NULL,
    -- When it was to start.
    due BIGINT NOT NULL,
    queue VARCHAR(255) NOT NULL,
    kind VARCHAR(255) NOT NULL,
    run BINARY(16),
    spec MEDIUMTEXT NOT NULL,
    revision BIGINT NOT NULL,
    -- Who published, edited or cancelled it, and when; why, of a cancel.
    changed BIGINT NOT NULL,
    changed_by VARCHAR(255) NOT NULL,
    why VARCHAR(1000),
    KEY timers_due (state, fire_at, job, queue, kind),
    KEY timers_run (run)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
-- What a file no longer names is found without a look at every trigger.
SET @change = IF(
    (SELECT COUNT(*) FROM information_schema.statistics
     WHERE table_schema = DATABASE() AND table_name = 'schedules' AND index_name = 'schedules_origin') > 0,
    'DO 0',
    'CREATE INDEX schedules_origin ON schedules (origin, stamp)');
PREPARE made FROM @change;
EXECUTE made;
DEALLOCATE PREPARE made;
