-- Who changed what of triggers, with what it was before; and what is counted of their instants.
CREATE TABLE changes (
    id BLOB NOT NULL PRIMARY KEY,
    -- The trigger's: a row outlives it.
    name TEXT NOT NULL,
    changed INTEGER NOT NULL,
    who TEXT NOT NULL,
    why TEXT,
    -- `added`, `edited`, `paused`, `resumed`, `freed`, `retired`, `removed`.
    what TEXT NOT NULL,
    old_spec TEXT,
    new_spec TEXT
);
CREATE INDEX changes_name ON changes (name, changed);
CREATE INDEX changes_changed ON changes (changed);

CREATE TABLE counts (
    name TEXT NOT NULL PRIMARY KEY,
    n INTEGER NOT NULL
);
INSERT INTO counts (name, n) VALUES ('blackout', 0), ('fired', 0), ('late', 0), ('missed', 0), ('overlap', 0);
