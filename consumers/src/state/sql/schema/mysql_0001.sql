CREATE TABLE IF NOT EXISTS state_claims (
    job BINARY(16) NOT NULL,
    replay BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    execution BINARY(16) NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (job, replay, attempt),
    KEY state_claims_at (at)
) ENGINE = InnoDB;

-- What counts up: the version of the marks, and the newest version of a mark that was forgotten.
CREATE TABLE IF NOT EXISTS state_counters (
    name VARBINARY(100) NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
) ENGINE = InnoDB;
INSERT IGNORE INTO state_counters (name, value) VALUES ('marks', 0), ('marks.forgotten', 0);

CREATE TABLE IF NOT EXISTS state_marks (
    subject VARBINARY(255) NOT NULL PRIMARY KEY,
    kind VARBINARY(20) NOT NULL,
    version BIGINT NOT NULL,
    at BIGINT NOT NULL,
    -- 1 when it was cleared: kept for a day, so that who knows the mark learns of it.
    cleared BIGINT NOT NULL,
    body MEDIUMTEXT NOT NULL,
    KEY state_marks_version (version),
    KEY state_marks_kind (kind, version),
    KEY state_marks_cleared (cleared, at)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS state_keys (
    name VARBINARY(255) NOT NULL PRIMARY KEY,
    job BINARY(16) NOT NULL,
    until BIGINT NOT NULL,
    KEY state_keys_until (until)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS state_limits (
    name VARBINARY(255) NOT NULL PRIMARY KEY,
    -- How many permits there are, those whose lease ended but that are not removed yet included.
    held BIGINT NOT NULL,
    -- When the next job would be due if all came evenly; how far it lies ahead is what was used up.
    due BIGINT NOT NULL,
    used BIGINT NOT NULL,
    KEY state_limits_used (used)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS state_permits (
    name VARBINARY(255) NOT NULL,
    owner BINARY(16) NOT NULL,
    until BIGINT NOT NULL,
    PRIMARY KEY (name, owner),
    KEY state_permits_owner (owner),
    KEY state_permits_name (name, until),
    KEY state_permits_until (until)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS state_leases (
    name VARBINARY(255) NOT NULL PRIMARY KEY,
    owner BINARY(16) NOT NULL,
    epoch BIGINT NOT NULL,
    until BIGINT NOT NULL
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS state_presence (
    consumer VARBINARY(255) NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    beat MEDIUMTEXT NOT NULL,
    KEY state_presence_at (at)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
