CREATE TABLE IF NOT EXISTS access_users (
    name       VARCHAR(100)  CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY,
    password   VARCHAR(255)  NOT NULL,
    roles      TEXT          CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    stamp      BINARY(16)    NOT NULL,
    created    BIGINT        NOT NULL,
    created_by VARCHAR(255)  CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS access_tokens (
    id         BINARY(16)    NOT NULL PRIMARY KEY,
    name       VARCHAR(100)  CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL UNIQUE,
    hash       VARBINARY(64) NOT NULL,
    roles      TEXT          CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    created    BIGINT        NOT NULL,
    created_by VARCHAR(255)  CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    expires    BIGINT
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS access_ended (
    session BINARY(16) NOT NULL PRIMARY KEY,
    until   BIGINT     NOT NULL
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS audit (
    id      BINARY(16)    NOT NULL PRIMARY KEY,
    at      BIGINT        NOT NULL,
    who     VARCHAR(100)  CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    how     VARCHAR(20)   CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    place   VARCHAR(255)  CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    action  VARCHAR(100)  CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    target  VARCHAR(1000) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    outcome VARCHAR(1000) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    INDEX audit_at (at, id),
    INDEX audit_who (who, at, id)
) ENGINE = InnoDB;
