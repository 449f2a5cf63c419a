-- How many executions ended in which way, took and waited how long, by minute (since 1970) and kind.
CREATE TABLE figures (
    minute INTEGER NOT NULL,
    kind TEXT NOT NULL,
    -- A state, or `ran` and `waited`, which have buckets of time.
    what TEXT NOT NULL,
    bucket INTEGER NOT NULL,
    -- Of the recorder: two at once rarely meet in a row.
    shard INTEGER NOT NULL,
    times INTEGER NOT NULL,
    PRIMARY KEY (minute, kind, what, bucket, shard)
) WITHOUT ROWID;
