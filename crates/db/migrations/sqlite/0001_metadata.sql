-- The same tables as in ../postgres, with the same names and numbers.

CREATE TABLE account (
    id      INTEGER PRIMARY KEY AUTOINCREMENT, -- never reused
    name    TEXT    NOT NULL UNIQUE,
    created INTEGER NOT NULL,                  -- seconds since 1970, as all times here
    claims  INTEGER NOT NULL DEFAULT 0         -- the last claim.seq that was given out
) STRICT;

CREATE TABLE ssh_key (
    id          INTEGER PRIMARY KEY,
    account     INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    blob        BLOB    NOT NULL UNIQUE,       -- SSH wire form
    algorithm   TEXT    NOT NULL,
    fingerprint TEXT    NOT NULL,
    comment     TEXT    NOT NULL,
    added       INTEGER NOT NULL
) STRICT;
CREATE INDEX ssh_key_account ON ssh_key (account, id);

-- What may be believed of a path, whoever believes it. Rows never change.
CREATE TABLE object (
    id       INTEGER PRIMARY KEY,
    digest   BLOB    NOT NULL UNIQUE,          -- of all the other columns but the id
    path     TEXT    NOT NULL,                 -- base name, as all paths here
    content  BLOB    NOT NULL,                 -- SHA-256 of the NAR
    nar_size INTEGER NOT NULL,
    refs     TEXT    NOT NULL,                 -- sorted, a space between two
    ca       TEXT    NOT NULL                  -- empty when there is none
) STRICT;

-- Who believes what, and why. Clustered by what is looked up.
CREATE TABLE claim (
    account    INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    path       TEXT    NOT NULL,               -- that of the object
    object     INTEGER NOT NULL REFERENCES object (id),
    kind       TEXT    NOT NULL,
    seq        INTEGER NOT NULL,               -- in the order of recording, counted per account
    deriver    TEXT,
    signatures TEXT    NOT NULL,               -- JSON array
    registered INTEGER NOT NULL,
    PRIMARY KEY (account, path, object, kind)
) STRICT, WITHOUT ROWID;

CREATE TABLE build (
    id            BLOB    NOT NULL PRIMARY KEY, -- UUID
    key           BLOB    NOT NULL,
    drv_path      TEXT    NOT NULL,
    started       INTEGER NOT NULL,
    stopped       INTEGER NOT NULL,
    wall_ms       INTEGER NOT NULL,
    cpu_user_us   INTEGER NOT NULL,
    cpu_system_us INTEGER NOT NULL
) STRICT;

CREATE TABLE build_output (
    build  BLOB    NOT NULL REFERENCES build (id) ON DELETE CASCADE,
    name   TEXT    NOT NULL,
    object INTEGER NOT NULL REFERENCES object (id),
    PRIMARY KEY (build, name)
) STRICT, WITHOUT ROWID;

-- The build that is shared for a key.
CREATE TABLE result (
    key   BLOB NOT NULL PRIMARY KEY,
    build BLOB NOT NULL UNIQUE REFERENCES build (id) ON DELETE CASCADE
) STRICT;

CREATE TABLE request (
    id       INTEGER PRIMARY KEY,
    account  INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    drv_path TEXT    NOT NULL,
    rung     TEXT,                             -- null when the build failed
    reason   TEXT    NOT NULL,
    build    BLOB,                             -- may be forgotten since
    time     INTEGER NOT NULL,
    wall_ms  INTEGER NOT NULL
) STRICT;
CREATE INDEX request_account ON request (account, time, id);
