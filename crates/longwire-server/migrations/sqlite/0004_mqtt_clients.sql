-- Devices that were registered by their own first login (JWT, call-out, anonymous), and how many of them an app has.
ALTER TABLE devices ADD COLUMN automatic INTEGER NOT NULL DEFAULT 0;
ALTER TABLE apps ADD COLUMN automatic_devices INTEGER NOT NULL DEFAULT 0;
-- What devices may do with topics: one rule a line; NULL leaves the default.
ALTER TABLE apps ADD COLUMN topic_rules TEXT;
-- How MQTT clients prove who they are beside device tokens: JSON; NULL: in no other way.
ALTER TABLE apps ADD COLUMN login_ways TEXT;
