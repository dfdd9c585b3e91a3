-- Keys of apps, and of operators (app 0). The id is public; the hash is of the whole key. Times: milliseconds since 1970.
CREATE TABLE IF NOT EXISTS api_keys (
    id BIGINT NOT NULL PRIMARY KEY,
    app BIGINT NOT NULL,
    name VARBINARY(64) NOT NULL,
    hash VARBINARY(32) NOT NULL,
    grants VARBINARY(255) NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT,
    used BIGINT NOT NULL DEFAULT 0
) ENGINE = InnoDB;

-- Acts of operators and of owners of apps; each line holds the hash of the one before.
CREATE TABLE IF NOT EXISTS audit (
    number BIGINT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    who VARBINARY(512) NOT NULL,
    act VARBINARY(512) NOT NULL,
    target VARBINARY(2048) NOT NULL,
    outcome VARBINARY(64) NOT NULL,
    remote VARBINARY(64) NOT NULL,
    trace VARBINARY(64) NOT NULL,
    previous VARBINARY(32) NOT NULL,
    hash VARBINARY(32) NOT NULL
) ENGINE = InnoDB;
