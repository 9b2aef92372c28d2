//! What a policy lets its account see.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use firn_core::{AccountId, Claim, Evidence, KeyId, Object, ObjectId, Origin, Policy, Trust, Witness};
use firn_nix::StorePath;
use firn_service::ports::DatabaseError;

use crate::decode::{self, Fields, OBJECT};
use crate::dialect::{Connection, Row};
use crate::error::backend;
use crate::query::{Query, Value};
use crate::told;

/// Condition on `claim`, with `$1` to `$3` of [`bind_policy`]: the account's own, and those of its policy's accounts as far as their level
/// covers.
pub fn claims_seen<C: Connection>() -> String {
    format!("(claim.account = $1 OR {})", claims_of_others::<C>())
}

pub fn claims_of_others<C: Connection>() -> String {
    let (trusted, uploads) = (C::in_ints(2), C::in_ints(3));
    format!(
        "(claim.account {trusted} AND (claim.origin = 'built' OR (claim.origin = 'uploaded' AND claim.account {uploads})))"
    )
}

/// Binds `$1`, the account; `$2`, the accounts that it trusts; `$3`, those whose uploads it trusts.
pub fn bind_policy(query: Query, policy: &Policy) -> Query {
    let others = |level: Trust| {
        policy
            .accounts
            .iter()
            .filter(|(account, trust)| *account != policy.account && *trust >= level)
            .map(|(account, _)| account.0)
            .collect()
    };
    query
        .int(policy.account.0)
        .bind(Value::Ints(others(Trust::Builds)))
        .bind(Value::Ints(others(Trust::Uploads)))
}

/// The keys that it trusts.
pub fn keys(policy: &Policy) -> Value {
    Value::Ints(policy.keys.iter().map(|key| key.0).collect())
}

/// Condition that `claim` is the account's own, on the object of a row of `signed`, and carries that very signature: having the same
/// bytes is not enough to know who signed them for somebody else.
fn own_signature<C: Connection>(claim: &str) -> String {
    let carries = C::has_text(&format!("{claim}.signatures"), "signed.signature");
    format!(
        "{claim}.account = $1 AND {claim}.path = signed.path AND {claim}.object = signed.object AND {carries}"
    )
}

/// Added to the age of what only the account itself brought: behind all that is shared, whose order others have made together.
const BEHIND_SHARED: i64 = 1 << 62;

/// All evidence for some paths.
pub fn of_paths<C: Connection>(policy: &Policy, paths: Vec<String>) -> Query {
    let paths_in = C::in_texts(5);
    let sql = format!(
        "SELECT CAST(0 AS BIGINT), claim.account, claim.object, claim.seq, claim.path, claim.origin, claim.deriver,
                claim.signatures, claim.registered, claim.cache, claim.shareable, CAST(1 AS BIGINT), {OBJECT}
         FROM claim JOIN object ON object.id = claim.object WHERE claim.account = $1 AND claim.path {paths_in}
         UNION ALL
         SELECT 1, claim.account, claim.object, claim.seq, claim.path, claim.origin, claim.deriver,
                claim.signatures, claim.registered, claim.cache, claim.shareable, 0, {OBJECT}
         FROM claim JOIN object ON object.id = claim.object WHERE {others} AND claim.path {paths_in}
         UNION ALL
         SELECT 2, signed.key, signed.object,
                CASE WHEN signed.shared > 0 THEN signed.seq ELSE {BEHIND_SHARED} + own.seq END,
                signed.path, 'uploaded', NULL, signed.signature,
                CASE WHEN signed.shared > 0 THEN signed.registered ELSE own.registered END, NULL, 0,
                CASE WHEN signed.shared <> 1 OR {own_shares} THEN 1 ELSE 0 END, {OBJECT}
         FROM signed JOIN object ON object.id = signed.object LEFT JOIN claim AS own ON {own}
         WHERE signed.key {keys} AND signed.path {paths_in} AND (signed.shared > 0 OR own.account IS NOT NULL)
           AND NOT EXISTS (SELECT 1 FROM told WHERE told.account = $1 AND told.path = signed.path AND told.object = signed.object
                             AND told.key = signed.key)
         UNION ALL
         SELECT 2, told.key, told.object, told.seq, told.path, 'uploaded', NULL, told.signatures, told.registered, NULL, 0, 1, {OBJECT}
         FROM told JOIN object ON object.id = told.object
         WHERE told.account = $1 AND told.path {paths_in} AND told.key {keys}
         UNION ALL
         SELECT 1, told.other, told.object, told.seq, told.path, told.origin, told.deriver, told.signatures, told.registered, NULL, 0, 1,
                {OBJECT}
         FROM told JOIN object ON object.id = told.object
         WHERE told.account = $1 AND told.path {paths_in} AND {told_by}",
        others = claims_of_others::<C>(),
        own = own_signature::<C>("own"),
        own_shares = own_shares("own"),
        keys = C::in_ints(4),
        told_by = told::by_trusted::<C>("told", 6),
    );
    let query = bind_policy(Query::new(sql), policy)
        .bind(keys(policy))
        .bind(Value::Texts(paths));
    told::bind_told_by(query, policy)
}

/// Condition that the account's own claim keeps shared what it carries, whatever others take back.
fn own_shares(claim: &str) -> String {
    format!(
        "({claim}.shareable = 1 AND {claim}.origin IN ('uploaded', 'substituted')
          AND (SELECT gives_evidence FROM account WHERE id = $1) = 1)"
    )
}

/// Paths that begin with a hash part and have evidence.
pub fn of_hash_part<C: Connection>(policy: &Policy, hash_part: &str) -> Query {
    let sql = format!(
        "SELECT claim.path FROM claim WHERE claim.account = $1 AND claim.path >= $5 AND claim.path < $6
         UNION ALL
         SELECT claim.path FROM claim WHERE {others} AND claim.path >= $5 AND claim.path < $6
         UNION ALL
         SELECT signed.path FROM signed WHERE signed.key {keys} AND signed.path >= $5 AND signed.path < $6
           AND (signed.shared > 0 OR EXISTS (SELECT 1 FROM claim WHERE {own}))
         UNION ALL
         SELECT told.path FROM told WHERE told.account = $1 AND told.path >= $5 AND told.path < $6 AND (told.key {keys} OR {told_by})",
        others = claims_of_others::<C>(),
        own = own_signature::<C>("claim"),
        keys = C::in_ints(4),
        told_by = told::by_trusted::<C>("told", 7),
    );
    // '.' is the character after '-'.
    let query = bind_policy(Query::new(sql), policy)
        .bind(keys(policy))
        .text(format!("{hash_part}-"))
        .text(format!("{hash_part}."));
    told::bind_told_by(query, policy)
}

/// Runs [`of_paths`]. By witness, the oldest first.
pub async fn fetch<C: Connection>(
    connection: &mut C,
    policy: &Policy,
    paths: &[StorePath],
) -> Result<Vec<Evidence>, DatabaseError> {
    let names = paths.iter().map(|p| p.base_name().to_owned()).collect();
    let query = of_paths::<C>(policy, names);
    let rows = connection.fetch(query).await.map_err(backend)?;
    let mut all = Vec::with_capacity(rows.len());
    let mut objects = HashMap::new();
    // A key may have signed an object twice.
    let mut signed: HashMap<(KeyId, ObjectId), usize> = HashMap::new();
    for row in &rows {
        let evidence = evidence(row, &mut objects)?;
        if let Witness::Key(key) = evidence.witness {
            let place = (key, evidence.id);
            match signed.get(&place).and_then(|index| all.get_mut(*index)) {
                Some(other) => {
                    oldest(other, evidence);
                    continue;
                }
                None => {
                    signed.insert(place, all.len());
                }
            }
        }
        all.push(evidence);
    }
    let said = |e: &Evidence| (e.witness, e.id, e.claim.origin);
    let by_account = |e: &&Evidence| matches!(e.witness, Witness::Account(_));
    let told: HashSet<_> = all
        .iter()
        .filter(|e| e.kept)
        .filter(by_account)
        .map(said)
        .collect();
    for evidence in &mut all {
        // What an account says now may tell more than what it said when it was told.
        evidence.kept |= told.contains(&said(evidence));
    }
    all.sort_by_key(|e| (e.witness, e.seq, e.id));
    Ok(all)
}

fn oldest(known: &mut Evidence, other: Evidence) {
    match other.seq.cmp(&known.seq) {
        Ordering::Less => *known = other,
        // The same signature, in several claims of the account's own.
        Ordering::Equal => known.kept |= other.kept,
        Ordering::Greater => {}
    }
}

/// `objects` are those that rows before had: most have several witnesses.
fn evidence(row: &impl Row, objects: &mut HashMap<ObjectId, Object>) -> Result<Evidence, DatabaseError> {
    let mut fields = Fields::new("claim", row);
    let which = fields.int("witness")?;
    let by = fields.int("account")?;
    let witness = match which {
        0 => Witness::Own,
        1 => Witness::Account(AccountId(by)),
        _ => {
            fields.table = "signed";
            Witness::Key(KeyId(by))
        }
    };
    let id = ObjectId(fields.int("object")?);
    let seq = fields.int("seq")?;
    let path = fields.text("path")?;
    fields.label = path;
    let origin: Origin = fields.origin("origin")?;
    let deriver = fields.opt_path("deriver")?;
    let signatures = match witness {
        Witness::Key(_) => [fields.text("signature")?.to_owned()].into(),
        Witness::Own | Witness::Account(_) => fields.texts("signatures")?,
    };
    let registered = fields.unsigned("registered")?;
    let cache = fields.opt_text("cache")?.map(str::to_owned);
    let shareable = fields.bool("shareable")?;
    let kept = fields.bool("kept")?;
    let object = match objects.get(&id) {
        Some(object) => object.clone(),
        None => {
            let object = decode::object(&mut fields)?.ok_or_else(|| fields.bad("path", "is null"))?;
            objects.insert(id, object.clone());
            object
        }
    };
    if object.path.base_name() != path {
        return Err(fields.bad("path", format_args!("a claim says {path}")));
    }
    let claim = Claim {
        object,
        origin,
        deriver,
        signatures,
        registered,
        cache,
        shareable,
    };
    Ok(Evidence {
        id,
        claim,
        witness,
        seq,
        kept,
    })
}
