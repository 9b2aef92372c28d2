//! What an account was told on the word of others, kept for it: nobody else takes it back.

use std::collections::BTreeSet;

use firn_core::{ObjectId, Policy, Trust};
use firn_nix::StorePath;
use firn_service::ports::DatabaseError;

use crate::claim_batch;
use crate::decode::Fields;
use crate::dialect::Connection;
use crate::error::backend;
use crate::evidence::{bind_policy, claims_of_others, keys};
use crate::query::{Query, Value};

/// Condition on `table`, what was told on the word of an account, with `$n` and `$n+1` of [`bind_told_by`]: as far as that account is
/// trusted, whether or not it lets read any more.
pub fn by_trusted<C: Connection>(table: &str, n: usize) -> String {
    let (builds, uploads) = (C::in_ints(n), C::in_ints(n + 1));
    format!(
        "(({table}.origin = 'built' AND {table}.other {builds}) OR ({table}.origin = 'uploaded' AND {table}.other {uploads}))"
    )
}

/// Binds the next two: the accounts that the policy's trusts, and those whose uploads it trusts.
pub fn bind_told_by(query: Query, policy: &Policy) -> Query {
    let of = |level: Trust| {
        let trusted = policy.told_by.iter().filter(|(_, trust)| *trust >= level);
        trusted.map(|(account, _)| account.0).collect()
    };
    query
        .bind(Value::Ints(of(Trust::Builds)))
        .bind(Value::Ints(of(Trust::Uploads)))
}

/// What others have of these objects, that the policy admits and that could be taken back.
pub fn keep<C: Connection>(policy: &Policy, paths: &[String], objects: &[i64]) -> [Query; 2] {
    let insert =
        "INSERT INTO told (account, path, object, key, other, origin, seq, deriver, signatures, registered)";
    let known = "ON CONFLICT (account, path, object, key, other, origin) DO NOTHING RETURNING object";
    let signed = format!(
        "{insert}
         SELECT CAST($1 AS BIGINT), signed.path, signed.object, signed.key, 0, '', signed.seq, NULL, signed.signature, signed.registered
         FROM signed WHERE signed.key {} AND signed.path {} AND signed.object {} AND signed.shared = 1
         ORDER BY signed.seq {known}",
        C::in_ints(2),
        C::in_texts(3),
        C::in_ints(4),
    );
    let signed = Query::new(signed).int(policy.account.0).bind(keys(policy));
    let said = format!(
        "{insert}
         SELECT CAST($1 AS BIGINT), claim.path, claim.object, 0, claim.account, claim.origin, claim.seq, claim.deriver,
                claim.signatures, claim.registered
         FROM claim WHERE {} AND claim.path {} AND claim.object {} {known}",
        claims_of_others::<C>(),
        C::in_texts(4),
        C::in_ints(5),
    );
    // Of one key's signatures of an object the oldest, as in views.
    [signed, bind_policy(Query::new(said), policy)].map(|query| {
        query
            .bind(Value::Texts(paths.to_vec()))
            .bind(Value::Ints(objects.to_vec()))
    })
}

/// Keeps it; the objects of which there was something that was not kept before.
pub async fn tell<C: Connection>(
    connection: &mut C,
    policy: &Policy,
    objects: Vec<(StorePath, ObjectId)>,
) -> Result<BTreeSet<ObjectId>, DatabaseError> {
    claim_batch::lock(connection, policy.account).await?;
    let names = objects
        .into_iter()
        .map(|(path, id)| (path.base_name().to_owned(), id.0));
    let (paths, objects): (Vec<String>, Vec<i64>) = names.unzip();
    let mut kept = BTreeSet::new();
    for query in keep::<C>(policy, &paths, &objects) {
        for row in connection.fetch(query).await.map_err(backend)? {
            kept.insert(ObjectId(Fields::new("told", &row).int("object")?));
        }
    }
    Ok(kept)
}
