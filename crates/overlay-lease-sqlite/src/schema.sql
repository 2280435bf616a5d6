-- The leases of overlay networks, for the processes of one machine.
--
-- This schema guards itself: triggers refuse leases that overlap, number the revisions and keep the log, whoever writes.
-- So a lease may be taken away by hand, DELETE FROM leases WHERE node = 'vm7', and all processes notice.
-- To change a lease by hand, set its revision to that of its network + 1 as well.

-- Networks side by side, and how they are configured. They stay, for the sake of their revisions.
CREATE TABLE networks (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    -- That of the last change.
    revision INTEGER NOT NULL CHECK (revision > 0),
    -- As JSON. NULL if it was taken away.
    config TEXT CHECK (json_valid(config)),
    -- The revision of the configuration.
    configured INTEGER NOT NULL CHECK (configured <= revision)
) STRICT;

-- Who has which subnets.
CREATE TABLE leases (
    id INTEGER PRIMARY KEY,
    network INTEGER NOT NULL,
    -- As in 10.5.1.0/24 and fd00:5:1::/64, without host bits. What of both there is names the lease.
    ipv4 TEXT,
    ipv6 TEXT,
    subnets TEXT NOT NULL AS (coalesce(ipv4 || ',' || ipv6, ipv4, ipv6)),
    -- NULL if it belongs to nobody in particular.
    node TEXT CHECK (node <> ''),
    -- What the node tells its peers, as JSON.
    attributes TEXT NOT NULL CHECK (json_valid(attributes) AND length(attributes) <= 1048576),
    -- How long it lives without being renewed. NULL for a reservation.
    ttl_ms INTEGER CHECK (ttl_ms BETWEEN 0 AND 3155760000000),
    -- When it goes unless it is renewed, in milliseconds of CLOCK_BOOTTIME.
    deadline_ms INTEGER CHECK ((deadline_ms IS NULL) = (ttl_ms IS NULL)),
    -- By the wall clock, for people: nothing is decided by it.
    renewed_at INTEGER NOT NULL DEFAULT (unixepoch()),
    created INTEGER NOT NULL CHECK (created <= revision),
    revision INTEGER NOT NULL,
    -- The first and the last address, as a number and as 16 bytes.
    ipv4_first INTEGER CHECK ((ipv4_first IS NULL) = (ipv4 IS NULL)),
    ipv4_last INTEGER CHECK ((ipv4_last IS NULL) = (ipv4 IS NULL) AND ipv4_last >= ipv4_first),
    ipv6_first BLOB CHECK ((ipv6_first IS NULL) = (ipv6 IS NULL) AND length(ipv6_first) = 16),
    ipv6_last BLOB CHECK ((ipv6_last IS NULL) = (ipv6 IS NULL) AND length(ipv6_last) = 16 AND ipv6_last >= ipv6_first),
    UNIQUE (network, subnets),
    UNIQUE (network, node),
    UNIQUE (network, ipv4_first),
    UNIQUE (network, ipv6_first)
) STRICT;

CREATE INDEX leases_by_deadline ON leases (deadline_ms) WHERE deadline_ms IS NOT NULL;

-- Which subnets each node had last: of those that have a lease, and of the last 65,536.
CREATE TABLE nodes (
    network INTEGER NOT NULL,
    node TEXT NOT NULL,
    ipv4 TEXT,
    ipv6 TEXT,
    -- The revision at which it got them or lost them.
    since INTEGER NOT NULL,
    PRIMARY KEY (network, node)
) STRICT, WITHOUT ROWID;

CREATE INDEX nodes_by_since ON nodes (network, since);

-- The last 10,000 changes of each network, one for each revision, for those who watch.
CREATE TABLE changes (
    network INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    -- By the wall clock, for people.
    changed_at INTEGER NOT NULL DEFAULT (unixepoch()),
    what TEXT NOT NULL CHECK (what IN ('config', 'lease', 'gone')),
    -- For config.
    config TEXT,
    -- For lease and gone.
    ipv4 TEXT,
    ipv6 TEXT,
    node TEXT,
    -- For lease.
    attributes TEXT,
    ttl_ms INTEGER,
    created INTEGER,
    PRIMARY KEY (network, revision)
) STRICT, WITHOUT ROWID;

-- In which life of the machine the deadlines count.
CREATE TABLE clock (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    boot_id TEXT NOT NULL
) STRICT;

INSERT INTO clock VALUES (1, '');

CREATE TRIGGER network_stays BEFORE DELETE ON networks
BEGIN
    SELECT RAISE(ABORT, 'networks stay, for the sake of their revisions; set config to NULL instead');
END;

CREATE TRIGGER network_made AFTER INSERT ON networks
BEGIN
    INSERT INTO changes (network, revision, what, config) VALUES (NEW.id, NEW.configured, 'config', NEW.config);
END;

CREATE TRIGGER network_configured BEFORE UPDATE OF config, configured ON networks
WHEN NEW.revision <> OLD.revision + 1 OR NEW.configured <> NEW.revision
BEGIN
    SELECT RAISE(ABORT, 'configured and revision have to be the next revision of the network');
END;

CREATE TRIGGER network_was_configured AFTER UPDATE OF config, configured ON networks
BEGIN
    INSERT INTO changes (network, revision, what, config) VALUES (NEW.id, NEW.revision, 'config', NEW.config);
END;

CREATE TRIGGER lease_overlaps BEFORE INSERT ON leases
WHEN NEW.ipv4_first <= (
    SELECT ipv4_last FROM leases WHERE network = NEW.network AND ipv4_first <= NEW.ipv4_last
    ORDER BY ipv4_first DESC LIMIT 1
) OR NEW.ipv6_first <= (
    SELECT ipv6_last FROM leases WHERE network = NEW.network AND ipv6_first <= NEW.ipv6_last
    ORDER BY ipv6_first DESC LIMIT 1
)
BEGIN
    SELECT RAISE(ABORT, 'leases of a network do not overlap');
END;

CREATE TRIGGER lease_moves BEFORE UPDATE OF id, network, ipv4, ipv6, created, ipv4_first, ipv4_last, ipv6_first, ipv6_last
ON leases
BEGIN
    SELECT RAISE(ABORT, 'the subnets of a lease stay');
END;

CREATE TRIGGER lease_made AFTER INSERT ON leases
BEGIN
    SELECT RAISE(ABORT, 'created and revision have to be the next revision of the network')
    WHERE NEW.created <> NEW.revision
    OR NEW.revision IS NOT (SELECT revision + 1 FROM networks WHERE id = NEW.network);
    UPDATE networks SET revision = NEW.revision WHERE id = NEW.network;
    INSERT INTO changes (network, revision, what, ipv4, ipv6, node, attributes, ttl_ms, created)
    VALUES (NEW.network, NEW.revision, 'lease', NEW.ipv4, NEW.ipv6, NEW.node, NEW.attributes, NEW.ttl_ms, NEW.created);
    INSERT INTO nodes SELECT NEW.network, NEW.node, NEW.ipv4, NEW.ipv6, NEW.revision WHERE NEW.node IS NOT NULL
    ON CONFLICT DO UPDATE SET ipv4 = excluded.ipv4, ipv6 = excluded.ipv6, since = excluded.since;
END;

CREATE TRIGGER lease_changed AFTER UPDATE OF node, attributes, ttl_ms, revision ON leases
BEGIN
    SELECT RAISE(ABORT, 'revision has to be the next revision of the network')
    WHERE NEW.revision IS NOT (SELECT revision + 1 FROM networks WHERE id = NEW.network);
    UPDATE networks SET revision = NEW.revision WHERE id = NEW.network;
    INSERT INTO changes (network, revision, what, ipv4, ipv6, node, attributes, ttl_ms, created)
    VALUES (NEW.network, NEW.revision, 'lease', NEW.ipv4, NEW.ipv6, NEW.node, NEW.attributes, NEW.ttl_ms, NEW.created);
END;

CREATE TRIGGER lease_gone AFTER DELETE ON leases
BEGIN
    UPDATE networks SET revision = revision + 1 WHERE id = OLD.network;
    INSERT INTO changes (network, revision, what, ipv4, ipv6, node)
    SELECT id, revision, 'gone', OLD.ipv4, OLD.ipv6, OLD.node FROM networks WHERE id = OLD.network;
    INSERT INTO nodes SELECT OLD.network, OLD.node, OLD.ipv4, OLD.ipv6, revision FROM networks
    WHERE id = OLD.network AND OLD.node IS NOT NULL
    ON CONFLICT DO UPDATE SET ipv4 = excluded.ipv4, ipv6 = excluded.ipv6, since = excluded.since;
END;

CREATE TRIGGER change_recorded AFTER INSERT ON changes
BEGIN
    DELETE FROM changes WHERE network = NEW.network AND revision <= NEW.revision - 10000;
END;

-- Names that never come back are not kept for ever. Those that go had theirs before all others that are known.
CREATE TRIGGER nodes_forgotten AFTER INSERT ON changes
WHEN NEW.revision % 1000 = 0
BEGIN
    DELETE FROM nodes WHERE network = NEW.network AND since <= (
        SELECT since FROM nodes WHERE network = NEW.network ORDER BY since DESC LIMIT 1 OFFSET 65536
    ) AND NOT EXISTS (SELECT 1 FROM leases WHERE leases.network = nodes.network AND leases.node = nodes.node);
END;

-- For people.

CREATE VIEW network_list AS
SELECT name AS network, config, revision,
    (SELECT count(*) FROM leases WHERE network = networks.id AND ttl_ms IS NOT NULL) AS leases,
    (SELECT count(*) FROM leases WHERE network = networks.id AND ttl_ms IS NULL) AS reservations
FROM networks ORDER BY name;

CREATE VIEW lease_list AS
SELECT name AS network, ipv4, ipv6, node,
    nullif(attributes ->> 'PublicIP', '0.0.0.0') AS endpoint, attributes ->> 'PublicIPv6' AS endpoint_ipv6,
    attributes ->> 'BackendType' AS backend, datetime(renewed_at, 'unixepoch') AS renewed,
    coalesce(datetime(renewed_at + ttl_ms / 1000, 'unixepoch'), 'never') AS expires, leases.revision AS revision
FROM leases JOIN networks ON networks.id = network ORDER BY name, ipv4_first, ipv6_first;

CREATE VIEW change_list AS
SELECT name AS network, changes.revision AS revision, datetime(changed_at, 'unixepoch') AS at, what,
    coalesce(ipv4 || ',' || ipv6, ipv4, ipv6) AS subnets, node, coalesce(changes.config, attributes) AS content
FROM changes JOIN networks ON networks.id = network ORDER BY name, changes.revision;
