-- The number in the file's header says whose database it is.
PRAGMA application_id = 1280855383;

CREATE TABLE apps (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    app_key TEXT NOT NULL UNIQUE,
    secret_hash BLOB NOT NULL,
    open_registration INTEGER NOT NULL
);

-- Client ids are never used twice, so the number of a removed device does not return.
CREATE TABLE devices (
    client INTEGER PRIMARY KEY AUTOINCREMENT,
    app INTEGER NOT NULL REFERENCES apps (id),
    name TEXT NOT NULL,
    alias TEXT,
    generation INTEGER NOT NULL,
    UNIQUE (app, name)
);

CREATE TABLE device_tags (
    client INTEGER NOT NULL REFERENCES devices (client),
    tag TEXT NOT NULL,
    PRIMARY KEY (client, tag)
) WITHOUT ROWID;

CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;
