-- A profile's word or seconds; NULL leaves it to the node's configuration. Padding: bytes at most, 0 none.
ALTER TABLE apps ADD COLUMN heartbeat TEXT;
ALTER TABLE apps ADD COLUMN heartbeat_padding INTEGER;
