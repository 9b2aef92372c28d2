-- The same tables as in ../sqlite, with the same names and numbers. Times are seconds since 1970, paths are base names, and what
-- says yes or no is 1 or 0.

CREATE TABLE account (
    id             BIGINT           PRIMARY KEY GENERATED ALWAYS AS IDENTITY, -- never reused
    name           TEXT COLLATE "C" NOT NULL UNIQUE,
    created        BIGINT           NOT NULL,
    claims         BIGINT           NOT NULL DEFAULT 0,                       -- the last claim.seq that was given out
    known_keys     BIGINT           NOT NULL DEFAULT 0,         -- public keys that it made known
    gives_evidence BIGINT           NOT NULL DEFAULT 1,
    gives_results  BIGINT           NOT NULL DEFAULT 1
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

CREATE TABLE account_setting (
    account BIGINT           NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    name    TEXT COLLATE "C" NOT NULL,
    value   TEXT             NOT NULL,
    PRIMARY KEY (account, name)
);

CREATE TABLE key_setting (
    ssh_key BIGINT           NOT NULL REFERENCES ssh_key (id) ON DELETE CASCADE,
    name    TEXT COLLATE "C" NOT NULL,
    value   TEXT             NOT NULL,
    PRIMARY KEY (ssh_key, name)
);

-- "account" believes "other".
CREATE TABLE trust (
    seq     BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY, -- in the order of trusting
    account BIGINT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    other   BIGINT NOT NULL, -- may be gone: what "account" was told on its word is still believed
    level   TEXT   NOT NULL,
    UNIQUE (account, other)
);
CREATE INDEX trust_other ON trust (other);

-- "account" lets "other" read.
CREATE TABLE reader (
    account BIGINT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    other   BIGINT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    level   TEXT   NOT NULL,
    PRIMARY KEY (account, other)
);
CREATE INDEX reader_other ON reader (other);

CREATE TABLE login (
    account  BIGINT           NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    host     TEXT COLLATE "C" NOT NULL,
    username TEXT             NOT NULL,
    password TEXT             NOT NULL,
    PRIMARY KEY (account, host)
);

CREATE TABLE signing_key (
    id      BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    account BIGINT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    secret  TEXT   NOT NULL, -- name:base64
    created BIGINT NOT NULL,
    active  BIGINT NOT NULL  -- 1 for one of each account
);
CREATE INDEX signing_key_account ON signing_key (account, id);

-- Keys that anybody trusts or has trusted.
CREATE TABLE public_key (
    id      BIGINT           PRIMARY KEY GENERATED ALWAYS AS IDENTITY, -- never reused; ascending in the order of commits
    name    TEXT COLLATE "C" NOT NULL,
    text    TEXT COLLATE "C" NOT NULL UNIQUE,                          -- name:base64, in its one form
    settled BIGINT           NOT NULL DEFAULT 0                        -- whether open signatures of that name were looked at
);
CREATE INDEX public_key_name ON public_key (name);

-- What may be believed of a path, whoever believes it. Rows never change and are never removed.
CREATE TABLE object (
    id       BIGINT           PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    digest   BYTEA            NOT NULL UNIQUE, -- of all the other columns but the id
    path     TEXT COLLATE "C" NOT NULL,
    content  BYTEA            NOT NULL,        -- SHA-256 of the NAR
    nar_size BIGINT           NOT NULL,
    refs     TEXT             NOT NULL,        -- sorted, a space between two
    ca       TEXT             NOT NULL,        -- empty when there is none
    self_refs TEXT            NOT NULL         -- how self-references count in ca: placed, unplaced, or empty
);

-- Who has what, and from where.
CREATE TABLE claim (
    account    BIGINT           NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    path       TEXT COLLATE "C" NOT NULL, -- that of the object
    object     BIGINT           NOT NULL REFERENCES object (id),
    origin     TEXT COLLATE "C" NOT NULL,
    seq        BIGINT           NOT NULL, -- in the order of recording, counted per account
    deriver    TEXT,
    signatures TEXT             NOT NULL, -- JSON array without blanks
    registered BIGINT           NOT NULL,
    cache      TEXT,
    shareable  BIGINT           NOT NULL,
    PRIMARY KEY (account, path, object, origin)
);
CREATE INDEX claim_object ON claim (object);

-- That a key has signed an object: one row, however many accounts brought the signature.
CREATE TABLE signed (
    key        BIGINT           NOT NULL REFERENCES public_key (id),
    path       TEXT COLLATE "C" NOT NULL, -- that of the object
    object     BIGINT           NOT NULL REFERENCES object (id),
    signature  TEXT COLLATE "C" NOT NULL, -- name:base64
    shared     BIGINT           NOT NULL, -- 0: no; 1: while a claim shares it; 2: for good, since an account that shared it was removed
    seq        BIGINT           NOT NULL, -- in the order of becoming visible
    registered BIGINT           NOT NULL,
    PRIMARY KEY (key, path, object, signature)
);
CREATE INDEX signed_object ON signed (object);

-- What an account was told on the word of others: that stays, whatever those take back. "key" is 0 where an account said it, "other" is 0
-- where a key has signed it. An "other" may be gone.
CREATE TABLE told (
    account    BIGINT           NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    path       TEXT COLLATE "C" NOT NULL, -- that of the object
    object     BIGINT           NOT NULL REFERENCES object (id),
    key        BIGINT           NOT NULL,
    other      BIGINT           NOT NULL,
    origin     TEXT             NOT NULL, -- built or uploaded, where an account said it
    seq        BIGINT           NOT NULL, -- that of the claim or the signature
    deriver    TEXT COLLATE "C",
    signatures TEXT COLLATE "C" NOT NULL, -- name:base64 of the key, or a JSON array without blanks
    registered BIGINT           NOT NULL,
    PRIMARY KEY (account, path, object, key, other, origin)
);
CREATE INDEX told_object ON told (object);
CREATE INDEX told_other ON told (other) WHERE other <> 0;

-- Signatures that no known key has made.
CREATE TABLE open_signature (
    id         BIGINT           PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    key_name   TEXT COLLATE "C" NOT NULL,
    account    BIGINT           NOT NULL,              -- who brought it first; 0 when that account was removed
    object     BIGINT           NOT NULL REFERENCES object (id),
    signature  TEXT COLLATE "C" NOT NULL,
    registered BIGINT           NOT NULL,
    UNIQUE (object, key_name, signature)
);
CREATE INDEX open_signature_name ON open_signature (key_name, account, id);
CREATE INDEX open_signature_account ON open_signature (account);

-- Which path an output got that is known only after a build, in the words of an account.
CREATE TABLE realisation (
    account    BIGINT           NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    drv        TEXT COLLATE "C" NOT NULL, -- sha256:<hex> of the derivation, or the base name of the resolved derivation
    output     TEXT COLLATE "C" NOT NULL,
    origin     TEXT             NOT NULL, -- built or uploaded
    form       TEXT             NOT NULL, -- for clients that compute this form: placed, unplaced, or empty for all
    signed     BIGINT           NOT NULL, -- whether the text has signatures
    registered BIGINT           NOT NULL,
    text       TEXT             NOT NULL, -- Nix's JSON
    PRIMARY KEY (account, drv, output, origin, form)
);
CREATE INDEX realisation_drv ON realisation (drv, output);

-- The same of realisations.
CREATE TABLE told_realisation (
    account    BIGINT           NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    drv        TEXT COLLATE "C" NOT NULL,
    output     TEXT COLLATE "C" NOT NULL,
    other      BIGINT           NOT NULL, -- whose claim it was
    origin     TEXT             NOT NULL,
    path       TEXT COLLATE "C" NOT NULL, -- that of the output
    form       TEXT             NOT NULL,
    signed     BIGINT           NOT NULL,
    registered BIGINT           NOT NULL,
    text       TEXT             NOT NULL,
    PRIMARY KEY (account, drv, output, other, origin, path, form)
);
CREATE INDEX told_realisation_path ON told_realisation (account, path);

-- Every run that succeeded, and every one that failed by its builder's own doing.
CREATE TABLE build (
    id            BYTEA            NOT NULL PRIMARY KEY,                      -- UUID
    account       BIGINT           REFERENCES account (id) ON DELETE CASCADE, -- whom it was run for; null when that account was removed
    shared        BIGINT           NOT NULL, -- whether others may know of it while its account gives results
    state         TEXT             NOT NULL, -- built, failed, rejected or timed-out
    key           BYTEA            NOT NULL,
    drv_path      TEXT COLLATE "C" NOT NULL,
    drv           BYTEA            NOT NULL, -- digest of the derivation without its inputs
    package       TEXT COLLATE "C" NOT NULL, -- name of the derivation without its version
    system        TEXT COLLATE "C" NOT NULL, -- as x86_64-linux
    started       BIGINT           NOT NULL,
    stopped       BIGINT           NOT NULL,
    wall_ms       BIGINT           NOT NULL,
    cpu_user_us   BIGINT           NOT NULL,
    cpu_system_us BIGINT           NOT NULL,
    memory_peak   BIGINT,                    -- most bytes at a time; null where nobody counted
    disk_bytes    BIGINT           NOT NULL,
    output_bytes  BIGINT           NOT NULL, -- sum of the outputs' NARs
    failure       TEXT             NOT NULL, -- as the client was told; empty when built
    inputs        BYTEA            NOT NULL  -- numbers of objects; src/inputs.rs has the format
);
CREATE INDEX build_account ON build (account, package, system, state, started, id);
CREATE INDEX build_package ON build (package, system, started, id) WHERE shared = 1 AND state = 'built';
CREATE INDEX build_drv ON build (drv, started, id);
CREATE INDEX build_key ON build (key, started, id);

CREATE TABLE build_output (
    build  BYTEA            NOT NULL REFERENCES build (id) ON DELETE CASCADE,
    name   TEXT COLLATE "C" NOT NULL,
    object BIGINT           NOT NULL REFERENCES object (id),
    PRIMARY KEY (build, name)
);
CREATE INDEX build_output_object ON build_output (object);

-- Build keys that had runs with different outputs. Some of those runs may have been forgotten since.
CREATE TABLE differing (
    key BYTEA NOT NULL PRIMARY KEY
);

-- The builds that answer requests for a key.
CREATE TABLE result (
    seq     BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    key     BYTEA  NOT NULL,
    build   BYTEA  NOT NULL REFERENCES build (id) ON DELETE CASCADE,
    account BIGINT REFERENCES account (id) ON DELETE CASCADE, -- whose it is; null when that account was removed
    shared  BIGINT NOT NULL,
    UNIQUE (key, account)
);
CREATE INDEX result_shared ON result (key, seq) WHERE shared = 1;
CREATE INDEX result_build ON result (build);
CREATE INDEX result_account ON result (account);

-- Outputs that were built from nothing that was merely claimed, by what all the sandboxes below them looked like.
CREATE TABLE grounded (
    ground BYTEA            NOT NULL,
    path   TEXT COLLATE "C" NOT NULL,
    build  BYTEA            NOT NULL REFERENCES build (id) ON DELETE CASCADE,
    object BIGINT           NOT NULL REFERENCES object (id),
    PRIMARY KEY (ground, path, build)
);
CREATE INDEX grounded_build ON grounded (build);
CREATE INDEX grounded_object ON grounded (object, ground);

-- Fixed outputs among them: from which derivations, of checked graphs, each was built.
CREATE TABLE grounded_from (
    ground   BYTEA            NOT NULL,
    path     TEXT COLLATE "C" NOT NULL,
    drv_path TEXT COLLATE "C" NOT NULL,
    build    BYTEA            NOT NULL REFERENCES build (id) ON DELETE CASCADE,
    PRIMARY KEY (ground, path, drv_path, build)
);
CREATE INDEX grounded_from_build ON grounded_from (build);

-- The latest failures that answer requests for a key.
CREATE TABLE failure (
    seq     BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    key     BYTEA  NOT NULL,
    build   BYTEA  NOT NULL REFERENCES build (id) ON DELETE CASCADE,
    account BIGINT REFERENCES account (id) ON DELETE CASCADE, -- whose it is; null when that account was removed
    shared  BIGINT NOT NULL,
    UNIQUE (key, account)
);
CREATE INDEX failure_shared ON failure (key, seq) WHERE shared = 1;
CREATE INDEX failure_build ON failure (build);
CREATE INDEX failure_account ON failure (account);

-- Accounts that took part in a shared run which has no outcome, until there is a shared result of the key.
CREATE TABLE mark (
    account  BIGINT           NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    key      BYTEA            NOT NULL,
    drv_path TEXT COLLATE "C" NOT NULL, -- as the account names the derivation
    why      TEXT             NOT NULL, -- what became of the run, in words
    time     BIGINT           NOT NULL,
    PRIMARY KEY (account, key)
);
CREATE INDEX mark_key ON mark (key);
CREATE INDEX mark_drv ON mark (account, drv_path, time);

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
CREATE INDEX request_drv ON request (account, drv_path, time, id) WHERE build IS NOT NULL;
CREATE INDEX request_build ON request (build, account) WHERE build IS NOT NULL;
CREATE INDEX request_time ON request (time);

-- "epoch" grows with every change of a decision and when evidence is taken away; "signed" is the last signed.seq, and who changes
-- signatures locks it.
CREATE TABLE counter (
    name  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    value BIGINT           NOT NULL
);
INSERT INTO counter (name, value) VALUES ('epoch', 1), ('signed', 0);

-- The server that holds the database, or held it last. Only here: SQLite's file is locked by whoever has it open.
CREATE TABLE server (
    one      BIGINT PRIMARY KEY CHECK (one = 1),
    token    BYTEA  NOT NULL, -- random, for one run of a server
    backend  BIGINT NOT NULL, -- process of PostgreSQL whose session has the lock
    host     TEXT   NOT NULL,
    address  TEXT   NOT NULL,
    data_dir TEXT   NOT NULL,
    since    BIGINT NOT NULL
);
