-- Large args and values, in parts. They belong to one job and go with it.
CREATE TABLE IF NOT EXISTS blobs (
    job BINARY(16) NOT NULL,
    sha256 BINARY(32) NOT NULL,
    part BIGINT NOT NULL,
    at BIGINT NOT NULL,
    data MEDIUMBLOB NOT NULL,
    PRIMARY KEY (job, sha256, part),
    KEY blobs_at (at, job)
) ENGINE = InnoDB;
