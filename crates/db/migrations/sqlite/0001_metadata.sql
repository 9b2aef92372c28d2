-- The same tables as in ../postgres, with the same names and numbers. Times are seconds since 1970, paths are base names, and what
-- says yes or no is 1 or 0.

CREATE TABLE account (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,  -- never reused
    name           TEXT    NOT NULL UNIQUE,
    created        INTEGER NOT NULL,
    claims         INTEGER NOT NULL DEFAULT 0,         -- the last claim.seq that was given out
    known_keys     INTEGER NOT NULL DEFAULT 0,         -- public keys that it made known
    gives_evidence INTEGER NOT NULL DEFAULT 1,
    gives_results  INTEGER NOT NULL DEFAULT 1
) STRICT;

CREATE TABLE ssh_key (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    account     INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    blob        BLOB    NOT NULL UNIQUE,               -- SSH wire form
    algorithm   TEXT    NOT NULL,
    fingerprint TEXT    NOT NULL,
    comment     TEXT    NOT NULL,
    added       INTEGER NOT NULL
) STRICT;
CREATE INDEX ssh_key_account ON ssh_key (account, id);

CREATE TABLE account_setting (
    account INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    name    TEXT    NOT NULL,
    value   TEXT    NOT NULL,
    PRIMARY KEY (account, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE key_setting (
    ssh_key INTEGER NOT NULL REFERENCES ssh_key (id) ON DELETE CASCADE,
    name    TEXT    NOT NULL,
    value   TEXT    NOT NULL,
    PRIMARY KEY (ssh_key, name)
) STRICT, WITHOUT ROWID;

-- "account" believes "other".
CREATE TABLE trust (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,         -- in the order of trusting
    account INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    other   INTEGER NOT NULL,                          -- may be gone: what "account" was told on its word is still believed
    level   TEXT    NOT NULL,
    UNIQUE (account, other)
) STRICT;
CREATE INDEX trust_other ON trust (other);

-- "account" lets "other" read.
CREATE TABLE reader (
    account INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    other   INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    level   TEXT    NOT NULL,
    PRIMARY KEY (account, other)
) STRICT, WITHOUT ROWID;
CREATE INDEX reader_other ON reader (other);

CREATE TABLE login (
    account  INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    host     TEXT    NOT NULL,
    username TEXT    NOT NULL,
    password TEXT    NOT NULL,
    PRIMARY KEY (account, host)
) STRICT, WITHOUT ROWID;

CREATE TABLE signing_key (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    account INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    secret  TEXT    NOT NULL,                          -- name:base64
    created INTEGER NOT NULL,
    active  INTEGER NOT NULL                           -- 1 for one of each account
) STRICT;
CREATE INDEX signing_key_account ON signing_key (account, id);

-- Keys that anybody trusts or has trusted.
CREATE TABLE public_key (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,         -- never reused; ascending in the order of commits
    name    TEXT    NOT NULL,
    text    TEXT    NOT NULL UNIQUE,                   -- name:base64, in its one form
    settled INTEGER NOT NULL DEFAULT 0                 -- whether open signatures of that name were looked at
) STRICT;
CREATE INDEX public_key_name ON public_key (name);

-- What may be believed of a path, whoever believes it. Rows never change and are never removed.
CREATE TABLE object (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    digest   BLOB    NOT NULL UNIQUE,                  -- of all the other columns but the id
    path     TEXT    NOT NULL,
    content  BLOB    NOT NULL,                         -- SHA-256 of the NAR
    nar_size INTEGER NOT NULL,
    refs     TEXT    NOT NULL,                         -- sorted, a space between two
    ca       TEXT    NOT NULL,                         -- empty when there is none
    self_refs TEXT   NOT NULL                          -- how self-references count in ca: placed, unplaced, or empty
) STRICT;

-- Who has what, and from where. Clustered by what is looked up.
CREATE TABLE claim (
    account    INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    path       TEXT    NOT NULL,                       -- that of the object
    object     INTEGER NOT NULL REFERENCES object (id),
    origin     TEXT    NOT NULL,
    seq        INTEGER NOT NULL,                       -- in the order of recording, counted per account
    deriver    TEXT,
    signatures TEXT    NOT NULL,                       -- JSON array without blanks
    registered INTEGER NOT NULL,
    cache      TEXT,
    shareable  INTEGER NOT NULL,
    PRIMARY KEY (account, path, object, origin)
) STRICT, WITHOUT ROWID;
CREATE INDEX claim_object ON claim (object);

-- That a key has signed an object: one row, however many accounts brought the signature.
CREATE TABLE signed (
    key        INTEGER NOT NULL REFERENCES public_key (id),
    path       TEXT    NOT NULL,                       -- that of the object
    object     INTEGER NOT NULL REFERENCES object (id),
    signature  TEXT    NOT NULL,                       -- name:base64
    shared     INTEGER NOT NULL,                       -- 0: no; 1: while a claim shares it; 2: for good, since an account that shared it was removed
    seq        INTEGER NOT NULL,                       -- in the order of becoming visible
    registered INTEGER NOT NULL,
    PRIMARY KEY (key, path, object, signature)
) STRICT, WITHOUT ROWID;
CREATE INDEX signed_object ON signed (object);

-- What an account was told on the word of others: that stays, whatever those take back. "key" is 0 where an account said it, "other" is 0
-- where a key has signed it. An "other" may be gone.
CREATE TABLE told (
    account    INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    path       TEXT    NOT NULL,                       -- that of the object
    object     INTEGER NOT NULL REFERENCES object (id),
    key        INTEGER NOT NULL,
    other      INTEGER NOT NULL,
    origin     TEXT    NOT NULL,                       -- built or uploaded, where an account said it
    seq        INTEGER NOT NULL,                       -- that of the claim or the signature
    deriver    TEXT,
    signatures TEXT    NOT NULL,                       -- name:base64 of the key, or a JSON array without blanks
    registered INTEGER NOT NULL,
    PRIMARY KEY (account, path, object, key, other, origin)
) STRICT, WITHOUT ROWID;
CREATE INDEX told_object ON told (object);
CREATE INDEX told_other ON told (other) WHERE other <> 0;

-- Signatures that no known key has made.
CREATE TABLE open_signature (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    key_name   TEXT    NOT NULL,
    account    INTEGER NOT NULL,                       -- who brought it first; 0 when that account was removed
    object     INTEGER NOT NULL REFERENCES object (id),
    signature  TEXT    NOT NULL,
    registered INTEGER NOT NULL,
    UNIQUE (object, key_name, signature)
) STRICT;
CREATE INDEX open_signature_name ON open_signature (key_name, account, id);
CREATE INDEX open_signature_account ON open_signature (account);

-- Which path an output got that is known only after a build, in the words of an account.
CREATE TABLE realisation (
    account    INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    drv        TEXT    NOT NULL,                       -- sha256:<hex> of the derivation, or the base name of the resolved derivation
    output     TEXT    NOT NULL,
    origin     TEXT    NOT NULL,                       -- built or uploaded
    form       TEXT    NOT NULL,                       -- for clients that compute this form: placed, unplaced, or empty for all
    signed     INTEGER NOT NULL,                       -- whether the text has signatures
    registered INTEGER NOT NULL,
    text       TEXT    NOT NULL,                       -- Nix's JSON
    PRIMARY KEY (account, drv, output, origin, form)
) STRICT, WITHOUT ROWID;
CREATE INDEX realisation_drv ON realisation (drv, output);

-- The same of realisations.
CREATE TABLE told_realisation (
    account    INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    drv        TEXT    NOT NULL,
    output     TEXT    NOT NULL,
    other      INTEGER NOT NULL,                       -- whose claim it was
    origin     TEXT    NOT NULL,
    path       TEXT    NOT NULL,                       -- that of the output
    form       TEXT    NOT NULL,
    signed     INTEGER NOT NULL,
    registered INTEGER NOT NULL,
    text       TEXT    NOT NULL,
    PRIMARY KEY (account, drv, output, other, origin, path, form)
) STRICT, WITHOUT ROWID;
CREATE INDEX told_realisation_path ON told_realisation (account, path);

-- Every run that succeeded, and every one that failed by its builder's own doing.
CREATE TABLE build (
    id            BLOB    NOT NULL PRIMARY KEY,        -- UUID
    account       INTEGER REFERENCES account (id) ON DELETE CASCADE, -- whom it was run for; null when that account was removed
    shared        INTEGER NOT NULL,                    -- whether others may know of it while its account gives results
    state         TEXT    NOT NULL,                    -- built, failed, rejected or timed-out
    key           BLOB    NOT NULL,
    drv_path      TEXT    NOT NULL,
    drv           BLOB    NOT NULL,                    -- digest of the derivation without its inputs
    package       TEXT    NOT NULL,                    -- name of the derivation without its version
    system        TEXT    NOT NULL,                    -- as x86_64-linux
    started       INTEGER NOT NULL,
    stopped       INTEGER NOT NULL,
    wall_ms       INTEGER NOT NULL,
    cpu_user_us   INTEGER NOT NULL,
    cpu_system_us INTEGER NOT NULL,
    memory_peak   INTEGER,                             -- most bytes at a time; null where nobody counted
    disk_bytes    INTEGER NOT NULL,
    output_bytes  INTEGER NOT NULL,                    -- sum of the outputs' NARs
    failure       TEXT    NOT NULL,                    -- as the client was told; empty when built
    inputs        BLOB    NOT NULL                     -- numbers of objects; src/inputs.rs has the format
) STRICT;
CREATE INDEX build_account ON build (account, package, system, state, started, id);
CREATE INDEX build_package ON build (package, system, started, id) WHERE shared = 1 AND state = 'built';
CREATE INDEX build_drv ON build (drv, started, id);
CREATE INDEX build_key ON build (key, started, id);

CREATE TABLE build_output (
    build  BLOB    NOT NULL REFERENCES build (id) ON DELETE CASCADE,
    name   TEXT    NOT NULL,
    object INTEGER NOT NULL REFERENCES object (id),
    PRIMARY KEY (build, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX build_output_object ON build_output (object);

-- Build keys that had runs with different outputs. Some of those runs may have been forgotten since.
CREATE TABLE differing (
    key BLOB NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- The builds that answer requests for a key.
CREATE TABLE result (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    key     BLOB    NOT NULL,
    build   BLOB    NOT NULL REFERENCES build (id) ON DELETE CASCADE,
    account INTEGER REFERENCES account (id) ON DELETE CASCADE, -- whose it is; null when that account was removed
    shared  INTEGER NOT NULL,
    UNIQUE (key, account)
) STRICT;
CREATE INDEX result_shared ON result (key, seq) WHERE shared = 1;
CREATE INDEX result_build ON result (build);
CREATE INDEX result_account ON result (account);

-- Outputs that were built from nothing that was merely claimed, by what all the sandboxes below them looked like.
CREATE TABLE grounded (
    ground BLOB    NOT NULL,
    path   TEXT    NOT NULL,
    build  BLOB    NOT NULL REFERENCES build (id) ON DELETE CASCADE,
    object INTEGER NOT NULL REFERENCES object (id),
    PRIMARY KEY (ground, path, build)
) STRICT, WITHOUT ROWID;
CREATE INDEX grounded_build ON grounded (build);
CREATE INDEX grounded_object ON grounded (object, ground);

-- Fixed outputs among them: from which derivations, of checked graphs, each was built.
CREATE TABLE grounded_from (
    ground   BLOB NOT NULL,
    path     TEXT NOT NULL,
    drv_path TEXT NOT NULL,
    build    BLOB NOT NULL REFERENCES build (id) ON DELETE CASCADE,
    PRIMARY KEY (ground, path, drv_path, build)
) STRICT, WITHOUT ROWID;
CREATE INDEX grounded_from_build ON grounded_from (build);

-- The latest failures that answer requests for a key.
CREATE TABLE failure (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    key     BLOB    NOT NULL,
    build   BLOB    NOT NULL REFERENCES build (id) ON DELETE CASCADE,
    account INTEGER REFERENCES account (id) ON DELETE CASCADE, -- whose it is; null when that account was removed
    shared  INTEGER NOT NULL,
    UNIQUE (key, account)
) STRICT;
CREATE INDEX failure_shared ON failure (key, seq) WHERE shared = 1;
CREATE INDEX failure_build ON failure (build);
CREATE INDEX failure_account ON failure (account);

-- Accounts that took part in a shared run which has no outcome, until there is a shared result of the key.
CREATE TABLE mark (
    account  INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    key      BLOB    NOT NULL,
    drv_path TEXT    NOT NULL, -- as the account names the derivation
    why      TEXT    NOT NULL, -- what became of the run, in words
    time     INTEGER NOT NULL,
    PRIMARY KEY (account, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX mark_key ON mark (key);
CREATE INDEX mark_drv ON mark (account, drv_path, time);

CREATE TABLE request (
    id       INTEGER PRIMARY KEY,
    account  INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    drv_path TEXT    NOT NULL,
    rung     TEXT,                                     -- null when the build failed
    reason   TEXT    NOT NULL,
    build    BLOB,                                     -- may be forgotten since
    time     INTEGER NOT NULL,
    wall_ms  INTEGER NOT NULL
) STRICT;
CREATE INDEX request_account ON request (account, time, id);
CREATE INDEX request_drv ON request (account, drv_path, time, id) WHERE build IS NOT NULL;
CREATE INDEX request_build ON request (build, account) WHERE build IS NOT NULL;
CREATE INDEX request_time ON request (time);

-- "epoch" grows with every change of a decision and when evidence is taken away; "signed" is the last signed.seq, and who changes
-- signatures locks it.
CREATE TABLE counter (
    name  TEXT    NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO counter (name, value) VALUES ('epoch', 1), ('signed', 0);
