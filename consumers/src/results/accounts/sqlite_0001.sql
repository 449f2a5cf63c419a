CREATE TABLE access_users (
    name       TEXT   NOT NULL PRIMARY KEY,
    password   TEXT   NOT NULL,
    roles      TEXT   NOT NULL,
    stamp      BLOB   NOT NULL,
    created    BIGINT NOT NULL,
    created_by TEXT   NOT NULL
) WITHOUT ROWID;

CREATE TABLE access_tokens (
    id         BLOB   NOT NULL PRIMARY KEY,
    name       TEXT   NOT NULL UNIQUE,
    hash       BLOB   NOT NULL,
    roles      TEXT   NOT NULL,
    created    BIGINT NOT NULL,
    created_by TEXT   NOT NULL,
    expires    BIGINT
) WITHOUT ROWID;

CREATE TABLE access_ended (
    session BLOB   NOT NULL PRIMARY KEY,
    until   BIGINT NOT NULL
) WITHOUT ROWID;

CREATE TABLE audit (
    id      BLOB   NOT NULL PRIMARY KEY,
    at      BIGINT NOT NULL,
    who     TEXT   NOT NULL,
    how     TEXT   NOT NULL,
    place   TEXT   NOT NULL,
    action  TEXT   NOT NULL,
    target  TEXT   NOT NULL,
    outcome TEXT   NOT NULL
) WITHOUT ROWID;

CREATE INDEX audit_at ON audit (at, id);
CREATE INDEX audit_who ON audit (who, at, id);
