//! Which path an output got, in the words of accounts.

use std::collections::{BTreeMap, BTreeSet};

use firn_core::{AccountId, Policy, RealisationClaim, RealisationEvidence};
use firn_nix::realisation::{DrvOutput, MAX_REALISATION, Realisation, RealisationError};
use firn_nix::rewrite::SelfReferences;
use firn_nix::signature::Signature;
use firn_service::ports::{DatabaseError, MAX_SIGNATURES};

use crate::claim_batch;
use crate::decode::Fields;
use crate::dialect::{Connection, Row};
use crate::error::{backend, stored};
use crate::evidence::bind_policy;
use crate::objects::self_references;
use crate::query::{Query, Value, insert_rows};
use crate::told;

/// What a policy lets its account see of these outputs of these derivations: its own claims, those of the policy's accounts as far as their level
/// covers, and, when the policy has keys, everything signed that its account shares.
pub fn of_outputs<C: Connection>(policy: &Policy, drvs: Vec<String>, outputs: Vec<String>) -> Query {
    let sql = format!(
        "SELECT realisation.drv, realisation.output, realisation.account, realisation.origin, realisation.registered, realisation.form,
                realisation.text, CAST(CASE WHEN realisation.account = $1 THEN 1 ELSE 0 END AS BIGINT)
         FROM realisation JOIN account ON account.id = realisation.account
         WHERE realisation.drv {drvs} AND realisation.output {outputs} AND (
           realisation.account = $1
           OR (realisation.account {trusted} AND (realisation.origin = 'built'
               OR (realisation.origin = 'uploaded' AND realisation.account {uploads})))
           OR ($5 = 1 AND realisation.signed = 1 AND realisation.origin = 'uploaded' AND account.gives_evidence = 1))
         UNION ALL
         SELECT told.drv, told.output, told.other, told.origin, told.registered, told.form, told.text, 1
         FROM told_realisation AS told
         WHERE told.account = $1 AND told.drv {drvs} AND told.output {outputs} AND ({told_by} OR ($5 = 1 AND told.signed = 1))",
        trusted = C::in_ints(2),
        uploads = C::in_ints(3),
        drvs = C::in_texts(4),
        outputs = C::in_texts(6),
        told_by = told::by_trusted::<C>("told", 7),
    );
    let query = bind_policy(Query::new(sql), policy)
        .bind(Value::Texts(drvs))
        .int(i64::from(!policy.keys.is_empty()))
        .bind(Value::Texts(outputs));
    told::bind_told_by(query, policy)
}

/// Runs [`of_outputs`]. A row of another account that cannot be read is logged and left out, so that one account's row does not fail the
/// requests of others; a row of the policy's own account is an error.
pub async fn fetch<C: Connection>(
    connection: &mut C,
    policy: &Policy,
    ids: &[DrvOutput],
) -> Result<Vec<RealisationEvidence>, DatabaseError> {
    let wanted: BTreeSet<&DrvOutput> = ids.iter().collect();
    let drvs: BTreeSet<String> = ids.iter().map(|id| id.drv.to_string()).collect();
    let outputs: BTreeSet<String> = ids.iter().map(|id| id.output.clone()).collect();
    let query = of_outputs::<C>(policy, drvs.into_iter().collect(), outputs.into_iter().collect());
    let rows = connection.fetch(query).await.map_err(backend)?;
    let mut all = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut fields = Fields::new("realisation", row);
        fields.label = fields.text("drv")?;
        let output = fields.text("output")?;
        let account = AccountId(fields.int("account")?);
        match claim(fields, output) {
            Ok((claim, kept)) => all.push(RealisationEvidence { account, claim, kept }),
            Err(error) if account != policy.account => {
                tracing::error!(%error, account = account.0, "another account's realisation is left out");
            }
            Err(error) => return Err(error),
        }
    }
    all.retain(|e| wanted.contains(&e.claim.realisation.id));
    Ok(all)
}

/// From the columns after the account on; the label is the derivation.
fn claim<R: Row>(mut fields: Fields<'_, R>, output: &str) -> Result<(RealisationClaim, bool), DatabaseError> {
    let origin = fields.origin("origin")?;
    let registered = fields.unsigned("registered")?;
    let form = fields.self_references("form")?;
    let text = fields.text("text")?;
    let realisation = Realisation::parse(text.as_bytes()).map_err(|e| fields.bad("text", e))?;
    if realisation.id.drv.to_string() != fields.label || realisation.id.output != output {
        return Err(fields.bad("text", format_args!("is about {}", realisation.id)));
    }
    let claim = RealisationClaim {
        realisation,
        origin,
        registered,
        form,
    };
    Ok((claim, fields.bool("kept")?))
}

/// Records claims of one account; see [`firn_service::ports::Views::record_realisations`].
pub async fn record<C: Connection>(
    connection: &mut C,
    account: AccountId,
    claims: Vec<RealisationClaim>,
) -> Result<(), DatabaseError> {
    claim_batch::lock(connection, account).await?;
    let ids: Vec<DrvOutput> = claims.iter().map(|c| c.realisation.id.clone()).collect();
    let own = fetch(connection, &Policy::alone(account), &ids).await?;
    let place = |claim: &RealisationClaim| (claim.realisation.id.clone(), claim.origin.name(), claim.form);
    let mut merged: BTreeMap<(DrvOutput, &'static str, Option<SelfReferences>), RealisationClaim> =
        own.into_iter().map(|e| (place(&e.claim), e.claim)).collect();
    let mut changed = BTreeSet::new();
    for mut claim in claims {
        let place = place(&claim);
        changed.insert(place.clone());
        let brought = std::mem::take(&mut claim.realisation.signatures);
        match merged.get_mut(&place) {
            Some(known) if known.realisation.fingerprint() == claim.realisation.fingerprint() => {
                add(&mut known.realisation.signatures, brought);
            }
            _ => {
                add(&mut claim.realisation.signatures, brought);
                merged.insert(place, claim);
            }
        }
    }
    merged.retain(|place, _| changed.contains(place));
    let rows = merged.into_values().map(|claim| row(account, &claim));
    for query in insert_rows::<C, _>(
        "INSERT INTO realisation (account, drv, output, origin, form, signed, registered, text)",
        rows.collect::<Result<Vec<_>, _>>()?,
        "ON CONFLICT (account, drv, output, origin, form)
         DO UPDATE SET signed = excluded.signed, registered = excluded.registered, text = excluded.text",
    ) {
        connection.fetch(query).await.map_err(backend)?;
    }
    Ok(())
}

/// Keeps for an account what others said; see [`firn_service::ports::Views::tell_realisations`].
pub async fn tell<C: Connection>(
    connection: &mut C,
    account: AccountId,
    told: Vec<RealisationEvidence>,
) -> Result<(), DatabaseError> {
    claim_batch::lock(connection, account).await?;
    let rows = told.into_iter().map(|evidence| {
        let path = evidence.claim.realisation.out_path.base_name().to_owned();
        let [_, drv, output, origin, form, signed, registered, text] = row(account, &evidence.claim)?;
        let (account, other) = (Value::Int(account.0), Value::Int(evidence.account.0));
        Ok([
            account,
            drv,
            output,
            other,
            origin,
            Value::Text(path),
            form,
            signed,
            registered,
            text,
        ])
    });
    for query in insert_rows::<C, _>(
        "INSERT INTO told_realisation (account, drv, output, other, origin, path, form, signed, registered, text)",
        rows.collect::<Result<Vec<_>, DatabaseError>>()?,
        "ON CONFLICT (account, drv, output, other, origin, path, form) DO NOTHING",
    ) {
        connection.fetch(query).await.map_err(backend)?;
    }
    Ok(())
}

fn add(known: &mut BTreeSet<Signature>, brought: BTreeSet<Signature>) {
    for signature in brought {
        if known.len() >= MAX_SIGNATURES {
            break;
        }
        known.insert(signature);
    }
}

/// Refuses what could not be read again.
fn row(account: AccountId, claim: &RealisationClaim) -> Result<[Value; 8], DatabaseError> {
    let RealisationClaim {
        realisation,
        origin,
        registered,
        form,
    } = claim;
    let text = realisation.to_json();
    if text.len() > MAX_REALISATION {
        return Err(backend(RealisationError::TooLarge(text.len())));
    }
    Ok([
        Value::Int(account.0),
        Value::Text(realisation.id.drv.to_string()),
        Value::Text(realisation.id.output.clone()),
        Value::Text(origin.name().to_owned()),
        Value::Text(self_references(*form).to_owned()),
        Value::Int(i64::from(!realisation.signatures.is_empty())),
        Value::Int(stored(*registered)?),
        Value::Text(text),
    ])
}
