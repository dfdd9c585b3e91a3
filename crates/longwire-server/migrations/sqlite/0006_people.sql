-- Keys of apps, and of operators (app 0). The id is public; the hash is of the whole key. Times: milliseconds since 1970.
CREATE TABLE api_keys (
    id INTEGER PRIMARY KEY,
    app INTEGER NOT NULL,
    name TEXT NOT NULL,
    hash BLOB NOT NULL,
    grants TEXT NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER,
    used INTEGER NOT NULL DEFAULT 0
);

-- Acts of operators and of owners of apps; each line holds the hash of the one before.
CREATE TABLE audit (
    number INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    who TEXT NOT NULL,
    act TEXT NOT NULL,
    target TEXT NOT NULL,
    outcome TEXT NOT NULL,
    remote TEXT NOT NULL,
    trace TEXT NOT NULL,
    previous BLOB NOT NULL,
    hash BLOB NOT NULL
);
