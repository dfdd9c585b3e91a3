-- takeover or reject; NULL leaves it to the node's configuration.
ALTER TABLE apps ADD COLUMN duplicate_login TEXT;
