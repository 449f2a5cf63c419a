CREATE TABLE state_claims (
    job BLOB NOT NULL,
    replay INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    execution BLOB NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (job, replay, attempt)
) WITHOUT ROWID;
CREATE INDEX state_claims_at ON state_claims (at);

-- What counts up: the version of the marks, and the newest version of a mark that was forgotten.
CREATE TABLE state_counters (
    name BLOB NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO state_counters (name, value) VALUES (CAST('marks' AS BLOB), 0), (CAST('marks.forgotten' AS BLOB), 0);

CREATE TABLE state_marks (
    subject BLOB NOT NULL PRIMARY KEY,
    kind BLOB NOT NULL,
    version INTEGER NOT NULL,
    at INTEGER NOT NULL,
    -- 1 when it was cleared: kept for a day, so that who knows the mark learns of it.
    cleared INTEGER NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX state_marks_version ON state_marks (version);
CREATE INDEX state_marks_kind ON state_marks (kind, version);
CREATE INDEX state_marks_cleared ON state_marks (at) WHERE cleared = 1;

CREATE TABLE state_keys (
    name BLOB NOT NULL PRIMARY KEY,
    job BLOB NOT NULL,
    until INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX state_keys_until ON state_keys (until);

CREATE TABLE state_limits (
    name BLOB NOT NULL PRIMARY KEY,
    -- How many permits there are, those whose lease ended but that are not removed yet included.
    held INTEGER NOT NULL,
    -- When the next job would be due if all came evenly; how far it lies ahead is what was used up.
    due INTEGER NOT NULL,
    used INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX state_limits_used ON state_limits (used);

CREATE TABLE state_permits (
    name BLOB NOT NULL,
    owner BLOB NOT NULL,
    until INTEGER NOT NULL,
    PRIMARY KEY (name, owner)
) WITHOUT ROWID;
CREATE INDEX state_permits_owner ON state_permits (owner);
CREATE INDEX state_permits_name ON state_permits (name, until);
CREATE INDEX state_permits_until ON state_permits (until);

CREATE TABLE state_leases (
    name BLOB NOT NULL PRIMARY KEY,
    owner BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    until INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE state_presence (
    consumer BLOB NOT NULL PRIMARY KEY,
    at INTEGER NOT NULL,
    beat TEXT NOT NULL
);
CREATE INDEX state_presence_at ON state_presence (at);
