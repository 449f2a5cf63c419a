-- Large args and values, in parts. They belong to one job and go with it.
CREATE TABLE blobs (
    job BLOB NOT NULL,
    sha256 BLOB NOT NULL,
    part INTEGER NOT NULL,
    at INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (job, sha256, part)
);
CREATE INDEX blobs_at ON blobs (at, job);
