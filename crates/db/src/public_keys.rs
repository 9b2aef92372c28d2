//! Public keys that are known, and signatures that wait for one.

use firn_core::{AccountId, KeyId, ObjectId};
use firn_nix::signature::PublicKey;
use firn_service::ports::{DatabaseError, KeyFor, OpenSignature};

use crate::decode::{self, Fields, OBJECT};
use crate::dialect::{Connection, Row};
use crate::error::backend;
use crate::query::{Query, Value};

/// Known keys of some names; and, with an empty text, the highest number of any.
pub fn named<C: Connection>(names: Vec<String>) -> Query {
    let sql = format!(
        "SELECT id, text FROM public_key WHERE name {} UNION ALL SELECT coalesce(max(id), 0), '' FROM public_key",
        C::in_texts(1)
    );
    Query::new(sql).bind(Value::Texts(names))
}

/// Reads the answer; keys by number.
pub fn decode_named(rows: &[impl Row]) -> Result<(Vec<(KeyId, PublicKey)>, KeyId), DatabaseError> {
    let mut keys = Vec::new();
    let mut highest = KeyId(0);
    for row in rows {
        let mut fields = Fields::new("public_key", row);
        let id = KeyId(fields.int("id")?);
        match fields.text("text")? {
            "" => highest = id,
            text => {
                let key = text.parse().map_err(|e| fields.bad("text", e))?;
                keys.push((id, key));
            }
        }
    }
    keys.sort_by_key(|(id, _)| *id);
    Ok((keys, highest))
}

/// The number of a key and whether it is settled.
pub fn find(key: &PublicKey) -> Query {
    Query::new("SELECT id, settled FROM public_key WHERE text = $1").text(key.to_string())
}

/// Reads the answer.
pub fn decode_found(rows: &[impl Row]) -> Result<Option<(KeyId, bool)>, DatabaseError> {
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let mut fields = Fields::new("public_key", row);
    Ok(Some((KeyId(fields.int("id")?), fields.bool("settled")?)))
}

/// Makes a key known, after everybody who records signatures without knowing it.
pub async fn register<C: Connection>(
    connection: &mut C,
    by: KeyFor,
    key: &PublicKey,
) -> Result<(KeyId, bool), DatabaseError> {
    if let Some(lock) = C::ADD_KEYS {
        connection.fetch(Query::new(lock)).await.map_err(backend)?;
    }
    if let Some(known) = decode_found(&connection.fetch(find(key)).await.map_err(backend)?)? {
        return Ok(known);
    }
    if let Some((account, most)) = by.most() {
        let count = Query::new(
            "UPDATE account SET known_keys = known_keys + 1 WHERE id = $1 AND known_keys < $2 RETURNING known_keys",
        )
        .int(account.0)
        .int(i64::from(most));
        if connection.fetch(count).await.map_err(backend)?.is_empty() {
            return Err(DatabaseError::TooManyKeys);
        }
    }
    let insert =
        Query::new("INSERT INTO public_key (name, text) VALUES ($1, $2) ON CONFLICT (text) DO NOTHING")
            .text(key.name())
            .text(key.to_string());
    connection.fetch(insert).await.map_err(backend)?;
    let rows = connection.fetch(find(key)).await.map_err(backend)?;
    decode_found(&rows)?.ok_or_else(|| DatabaseError::Inconsistent {
        table: "public_key",
        what: format!("{} vanished while it was made known", key.name().escape_debug()),
    })
}

/// Who brought open signatures of a name, by number: one search each.
pub fn open_signers(key_name: &str) -> Query {
    Query::new(
        "WITH RECURSIVE signer (account) AS (
           SELECT min(account) FROM open_signature WHERE key_name = $1
           UNION ALL
           SELECT (SELECT min(account) FROM open_signature WHERE key_name = $1 AND account > signer.account)
           FROM signer WHERE signer.account IS NOT NULL
         )
         SELECT account FROM signer WHERE account IS NOT NULL ORDER BY account",
    )
    .text(key_name)
}

/// One of them.
pub fn decode_signer(row: &impl Row) -> Result<AccountId, DatabaseError> {
    Fields::new("open_signature", row).int("account").map(AccountId)
}

/// How many signatures of an account are open, as far as that is of interest.
pub fn open_of(account: AccountId, most: u32) -> Query {
    Query::new("SELECT count(*) FROM (SELECT 1 FROM open_signature WHERE account = $1 LIMIT $2) AS open")
        .int(account.0)
        .int(i64::from(most))
}

/// Open signatures of a name that an account brought, by number.
pub fn open_signatures(key_name: &str, account: AccountId, after: i64, limit: u32) -> Query {
    let sql = format!(
        "SELECT open_signature.id, open_signature.object, open_signature.signature, {OBJECT}
         FROM open_signature JOIN object ON object.id = open_signature.object
         WHERE open_signature.key_name = $1 AND open_signature.account = $2 AND open_signature.id > $3
         ORDER BY open_signature.id LIMIT $4"
    );
    let query = Query::new(sql).text(key_name).int(account.0);
    query.int(after).int(i64::from(limit))
}

/// One of them.
pub fn decode_open(row: &impl Row) -> Result<OpenSignature, DatabaseError> {
    let mut fields = Fields::new("open_signature", row);
    let id = fields.int("id")?;
    let object_id = ObjectId(fields.int("object")?);
    let signature = fields.text("signature")?.to_owned();
    let object = decode::object(&mut fields)?.ok_or_else(|| fields.bad("path", "is null"))?;
    Ok(OpenSignature {
        id,
        object_id,
        object,
        signature,
    })
}
