-- MySQL and MariaDB: everything up to version 5, in one file. A table that cannot be undone is made only if it is missing, since
-- a server that dies in here must be able to begin again. Names are bytes: no collation of text compares them exactly.
CREATE TABLE IF NOT EXISTS longwire_registry (
    application BIGINT NOT NULL PRIMARY KEY
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS apps (
    id BIGINT NOT NULL PRIMARY KEY AUTO_INCREMENT,
    app_key VARBINARY(128) NOT NULL UNIQUE,
    secret_hash VARBINARY(32) NOT NULL,
    open_registration BIGINT NOT NULL,
    duplicate_login VARBINARY(32),
    heartbeat VARBINARY(32),
    heartbeat_padding BIGINT,
    automatic_devices BIGINT NOT NULL DEFAULT 0,
    topic_rules MEDIUMBLOB,
    login_ways MEDIUMBLOB,
    settings MEDIUMBLOB
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS devices (
    client BIGINT NOT NULL PRIMARY KEY AUTO_INCREMENT,
    app BIGINT NOT NULL,
    name VARBINARY(128) NOT NULL,
    alias VARBINARY(64),
    generation BIGINT NOT NULL,
    automatic BIGINT NOT NULL DEFAULT 0,
    UNIQUE KEY device_name (app, name),
    FOREIGN KEY (app) REFERENCES apps (id)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS device_tags (
    client BIGINT NOT NULL,
    tag VARBINARY(64) NOT NULL,
    PRIMARY KEY (client, tag),
    FOREIGN KEY (client) REFERENCES devices (client)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS device_attributes (
    client BIGINT NOT NULL,
    name VARBINARY(32) NOT NULL,
    value VARBINARY(64) NOT NULL,
    PRIMARY KEY (client, name),
    FOREIGN KEY (client) REFERENCES devices (client)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS settings (
    name VARBINARY(64) NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) ENGINE = InnoDB;

-- Last: who finds it knows that the tables are ours.
INSERT INTO longwire_registry (application) VALUES (1280855383) ON DUPLICATE KEY UPDATE application = application;
