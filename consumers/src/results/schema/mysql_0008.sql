-- How many executions ended in which way, took and waited how long, by minute (since 1970) and kind.
CREATE TABLE IF NOT EXISTS figures (
    minute BIGINT NOT NULL,
    kind VARCHAR(255) NOT NULL,
    -- A state, or `ran` and `waited`, which have buckets of time.
    what VARCHAR(10) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    bucket SMALLINT NOT NULL,
    -- Of the recorder: two at once rarely meet in a row.
    shard SMALLINT NOT NULL,
    times BIGINT NOT NULL,
    PRIMARY KEY (minute, kind, what, bucket, shard)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
