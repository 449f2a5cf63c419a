CREATE TABLE answers (
    name    BLOB    NOT NULL PRIMARY KEY,
    request BLOB    NOT NULL,
    seed    BLOB    NOT NULL,
    holder  BLOB    NOT NULL,
    at      BIGINT  NOT NULL,
    until   BIGINT  NOT NULL,
    status  BIGINT  NOT NULL,
    large   BIGINT  NOT NULL,
    body    BLOB    NOT NULL
) WITHOUT ROWID;

CREATE INDEX answers_at ON answers (large, at);
