-- The same tables as in ../sqlite, with the same names and numbers.

CREATE TABLE account (
    id      BIGINT           PRIMARY KEY GENERATED ALWAYS AS IDENTITY, -- never reused
    name    TEXT COLLATE "C" NOT NULL UNIQUE,
    created BIGINT           NOT NULL,                                 -- seconds since 1970, as all times here
    claims  BIGINT           NOT NULL DEFAULT 0                        -- the last claim.seq that was given out
);

CREATE TABLE ssh_key (
    id          BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    account     BIGINT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    blob        BYTEA  NOT NULL UNIQUE, -- SSH wire form
    algorithm   TEXT   NOT NULL,
    fingerprint TEXT   NOT NULL,
    comment     TEXT   NOT NULL,
    added       BIGINT NOT NULL
);
CREATE INDEX ssh_key_account ON ssh_key (account, id);

-- What may be believed of a path, whoever believes it. Rows never change.
CREATE TABLE object (
    id       BIGINT           PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    digest   BYTEA            NOT NULL UNIQUE, -- of all the other columns but the id
    path     TEXT COLLATE "C" NOT NULL,        -- base name, as all paths here
    content  BYTEA            NOT NULL,        -- SHA-256 of the NAR
    nar_size BIGINT           NOT NULL,
    refs     TEXT             NOT NULL,        -- sorted, a space between two
    ca       TEXT             NOT NULL         -- empty when there is none
);

-- Who believes what, and why.
CREATE TABLE claim (
    account    BIGINT           NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    path       TEXT COLLATE "C" NOT NULL, -- that of the object
    object     BIGINT           NOT NULL REFERENCES object (id),
    kind       TEXT             NOT NULL,
    seq        BIGINT           NOT NULL, -- in the order of recording, counted per account
    deriver    TEXT,
    signatures TEXT             NOT NULL, -- JSON array
    registered BIGINT           NOT NULL,
    PRIMARY KEY (account, path, object, kind)
);

CREATE TABLE build (
    id            BYTEA            NOT NULL PRIMARY KEY, -- UUID
    key           BYTEA            NOT NULL,
    drv_path      TEXT COLLATE "C" NOT NULL,
    started       BIGINT           NOT NULL,
    stopped       BIGINT           NOT NULL,
    wall_ms       BIGINT           NOT NULL,
    cpu_user_us   BIGINT           NOT NULL,
    cpu_system_us BIGINT           NOT NULL
);

CREATE TABLE build_output (
    build  BYTEA            NOT NULL REFERENCES build (id) ON DELETE CASCADE,
    name   TEXT COLLATE "C" NOT NULL,
    object BIGINT           NOT NULL REFERENCES object (id),
    PRIMARY KEY (build, name)
);

-- The build that is shared for a key.
CREATE TABLE result (
    key   BYTEA NOT NULL PRIMARY KEY,
    build BYTEA NOT NULL UNIQUE REFERENCES build (id) ON DELETE CASCADE
);

CREATE TABLE request (
    id       BIGINT           PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    account  BIGINT           NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    drv_path TEXT COLLATE "C" NOT NULL,
    rung     TEXT,                      -- null when the build failed
    reason   TEXT             NOT NULL,
    build    BYTEA,                     -- may be forgotten since
    time     BIGINT           NOT NULL,
    wall_ms  BIGINT           NOT NULL
);
CREATE INDEX request_account ON request (account, time, id);
