CREATE TABLE IF NOT EXISTS answers (
    name    BINARY(32) NOT NULL PRIMARY KEY,
    request BINARY(32) NOT NULL,
    seed    BINARY(16) NOT NULL,
    holder  BINARY(16) NOT NULL,
    at      BIGINT     NOT NULL,
    until   BIGINT     NOT NULL,
    status  BIGINT     NOT NULL,
    large   BIGINT     NOT NULL,
    body    MEDIUMBLOB NOT NULL,
    INDEX answers_at (large, at)
) ENGINE = InnoDB;
