//! Who else may see that a key has signed an object: everybody who trusts the key, as long as an account that gives evidence has a
//! shareable claim, uploaded or substituted, with that signature.

use std::collections::HashSet;

use firn_core::{AccountId, Origin};
use firn_service::ports::DatabaseError;

use crate::counter;
use crate::decode::Fields;
use crate::dialect::Connection;
use crate::error::backend;
use crate::query::{Query, Value};

/// Origins whose signatures become known to others.
pub const fn may_share(origin: Origin) -> bool {
    match origin {
        Origin::Uploaded | Origin::Substituted => true,
        Origin::Built => false,
    }
}

/// Objects whose signatures are looked at again.
#[derive(Debug)]
pub enum Objects {
    /// All that the account has claims on.
    Of(AccountId),
    /// These.
    These(Vec<i64>),
}

impl Objects {
    /// Condition on an object's number; the value is `$1`.
    fn condition<C: Connection>(&self, column: &str) -> String {
        match self {
            Self::Of(_) => {
                format!("{column} IN (SELECT mine.object FROM claim AS mine WHERE mine.account = $1)")
            }
            Self::These(_) => format!("{column} {}", C::in_ints(1)),
        }
    }

    fn query(&self, sql: String) -> Query {
        Query::new(sql).bind(match self {
            Self::Of(account) => Value::Int(account.0),
            Self::These(objects) => Value::Ints(objects.clone()),
        })
    }
}

/// Condition that a claim, of an account, shares the signatures that it carries.
const SHARES: &str =
    "claim.shareable = 1 AND claim.origin IN ('uploaded', 'substituted') AND account.gives_evidence = 1";

/// Condition that a claim on the object of a row of `table` carries the row's signature.
fn carried<C: Connection>(table: &str) -> String {
    let carries = C::has_text("claim.signatures", &format!("{table}.signature"));
    format!("EXISTS (SELECT 1 FROM claim WHERE claim.object = {table}.object AND {carries})")
}

/// Condition that a claim shares a row of `table`.
pub fn backed<C: Connection>(table: &str) -> String {
    let carries = C::has_text("claim.signatures", &format!("{table}.signature"));
    format!(
        "EXISTS (SELECT 1 FROM claim JOIN account ON account.id = claim.account
         WHERE claim.object = {table}.object AND {SHARES} AND {carries})"
    )
}

/// Makes signatures shared, or not any more, as the claims are now, and removes those that no claim carries and nobody shares.
pub async fn refresh<C: Connection>(connection: &mut C, objects: &Objects) -> Result<(), DatabaseError> {
    if matches!(objects, Objects::These(none) if none.is_empty()) {
        return Ok(());
    }
    let next = counter::reserve_signed(connection, 0).await?;
    for query in withdraw::<C>(objects) {
        connection.fetch(query).await.map_err(backend)?;
    }
    let raised = connection
        .fetch(raise::<C>(objects, next))
        .await
        .map_err(backend)?;
    let raised = i64::try_from(raised.len()).unwrap_or(i64::MAX);
    counter::reserve_signed(connection, raised).await?;
    Ok(())
}

/// What is not shared any more, and what nobody has any more.
pub fn withdraw<C: Connection>(objects: &Objects) -> [Query; 3] {
    let signed = objects.condition::<C>("signed.object");
    let open = objects.condition::<C>("open_signature.object");
    [
        format!(
            "UPDATE signed SET shared = 0 WHERE {signed} AND shared = 1 AND NOT {}",
            backed::<C>("signed")
        ),
        format!(
            "DELETE FROM signed WHERE {signed} AND shared = 0 AND NOT {}",
            carried::<C>("signed")
        ),
        format!(
            "DELETE FROM open_signature WHERE {open} AND NOT {}",
            carried::<C>("open_signature")
        ),
    ]
    .map(|sql| objects.query(sql))
}

/// What is shared from now on, in the order in which those who share it had it; the first gets the number `next`. Who brought it before
/// without sharing it shows nobody when.
pub fn raise<C: Connection>(objects: &Objects, next: i64) -> Query {
    let carries = C::has_text("claim.signatures", "signed.signature");
    let sql = format!(
        "UPDATE signed SET shared = 1, seq = $2 - 1 + raised.place, registered = raised.registered
         FROM (SELECT key, path, object, signature, registered,
                      row_number() OVER (ORDER BY registered, age, digest, key, signature) AS place
               FROM (SELECT signed.key, signed.path, signed.object, signed.signature, object.digest,
                            min(claim.registered) AS registered, min(claim.seq) AS age
                     FROM signed JOIN object ON object.id = signed.object JOIN claim ON claim.object = signed.object
                     JOIN account ON account.id = claim.account
                     WHERE {} AND signed.shared = 0 AND {SHARES} AND {carries}
                     GROUP BY signed.key, signed.path, signed.object, signed.signature, object.digest) AS told) AS raised
         WHERE signed.key = raised.key AND signed.path = raised.path AND signed.object = raised.object
           AND signed.signature = raised.signature
         RETURNING seq",
        objects.condition::<C>("signed.object"),
    );
    objects.query(sql).int(next)
}

/// Before an account is removed: what it shares is shared for good, and what it alone has and nobody shares goes.
pub async fn part<C: Connection>(
    connection: &mut C,
    account: AccountId,
    gives: bool,
) -> Result<(), DatabaseError> {
    counter::reserve_signed(connection, 0).await?;
    let objects = Objects::Of(account);
    if gives {
        let sql = format!(
            "UPDATE signed SET shared = 2 WHERE {} AND shared = 1 AND EXISTS (
               SELECT 1 FROM claim WHERE claim.account = $1 AND claim.path = signed.path AND claim.object = signed.object
                 AND claim.shareable = 1 AND claim.origin IN ('uploaded', 'substituted') AND {})",
            objects.condition::<C>("signed.object"),
            C::has_text("claim.signatures", "signed.signature")
        );
        connection.fetch(objects.query(sql)).await.map_err(backend)?;
    }
    for (table, unshared) in [("signed", "AND shared = 0"), ("open_signature", "")] {
        let sql = format!(
            "DELETE FROM {table} WHERE {} {unshared} AND NOT EXISTS (
               SELECT 1 FROM claim WHERE claim.object = {table}.object AND claim.account <> $1 AND {})",
            objects.condition::<C>(&format!("{table}.object")),
            C::has_text("claim.signatures", &format!("{table}.signature"))
        );
        connection.fetch(objects.query(sql)).await.map_err(backend)?;
    }
    // What others have, too, is nobody's from now on.
    let left = Query::new("UPDATE open_signature SET account = 0 WHERE account = $1").int(account.0);
    connection.fetch(left).await.map_err(backend)?;
    Ok(())
}

/// Puts open signatures (by number, with their object's) down as the key's.
pub async fn prove<C: Connection>(
    connection: &mut C,
    key: i64,
    proven: &[(i64, i64)],
) -> Result<(), DatabaseError> {
    // Also makes sure that claims are seen whose signatures are.
    counter::reserve_signed(connection, 0).await?;
    let numbers: Vec<i64> = proven.iter().map(|(id, _)| *id).collect();
    let select = Query::new(format!(
        "SELECT open_signature.id, open_signature.object FROM open_signature
         JOIN public_key ON public_key.name = open_signature.key_name AND public_key.id = $2
         WHERE open_signature.id {}",
        C::in_ints(1)
    ))
    .bind(Value::Ints(numbers))
    .int(key);
    let mut found = Vec::new();
    for row in connection.fetch(select).await.map_err(backend)? {
        let mut fields = Fields::new("open_signature", &row);
        found.push((fields.int("id")?, fields.int("object")?));
    }
    let proven: HashSet<&(i64, i64)> = proven.iter().collect();
    found.retain(|row| proven.contains(row));
    found.sort_unstable();
    let count = i64::try_from(found.len()).unwrap_or(i64::MAX);
    let next = counter::reserve_signed(connection, count).await?;
    let (numbers, objects): (Vec<i64>, Vec<i64>) = found.into_iter().unzip();
    let insert = format!(
        "INSERT INTO signed (key, path, object, signature, shared, seq, registered)
         SELECT CAST($2 AS BIGINT), object.path, object.id, open_signature.signature, 0,
                $3 - 1 + row_number() OVER (ORDER BY open_signature.id), open_signature.registered
         FROM open_signature JOIN object ON object.id = open_signature.object
         WHERE open_signature.id {} ON CONFLICT (key, path, object, signature) DO NOTHING",
        C::in_ints(1)
    );
    let insert = Query::new(insert)
        .bind(Value::Ints(numbers.clone()))
        .int(key)
        .int(next);
    connection.fetch(insert).await.map_err(backend)?;
    let delete = format!("DELETE FROM open_signature WHERE id {}", C::in_ints(1));
    let delete = Query::new(delete).bind(Value::Ints(numbers));
    connection.fetch(delete).await.map_err(backend)?;
    refresh(connection, &Objects::These(objects)).await
}
