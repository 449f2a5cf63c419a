-- Who changed what of triggers, with what it was before; and what is counted of their instants.
CREATE TABLE IF NOT EXISTS changes (
    id BINARY(16) NOT NULL PRIMARY KEY,
    -- The trigger's: a row outlives it.
    name VARCHAR(100) NOT NULL,
    changed BIGINT NOT NULL,
    who VARCHAR(255) NOT NULL,
    why VARCHAR(1000),
    -- `added`, `edited`, `paused`, `resumed`, `freed`, `retired`, `removed`.
    what VARCHAR(10) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    old_spec MEDIUMTEXT,
    new_spec MEDIUMTEXT,
    KEY changes_name (name, changed),
    KEY changes_changed (changed)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS counts (
    name VARCHAR(50) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    n BIGINT NOT NULL
) ENGINE = InnoDB;
INSERT IGNORE INTO counts (name, n) VALUES ('blackout', 0), ('fired', 0), ('late', 0), ('missed', 0), ('overlap', 0);
