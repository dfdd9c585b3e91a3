-- What else is set for an app: JSON; NULL: all defaults.
ALTER TABLE apps ADD COLUMN settings TEXT;

CREATE TABLE device_attributes (
    client INTEGER NOT NULL REFERENCES devices (client),
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (client, name)
) WITHOUT ROWID;
