//! Taking an account away, and nothing that others rely on.

use firn_core::AccountName;
use firn_service::ports::DatabaseError;

use crate::counter;
use crate::dialect::Connection;
use crate::error::backend;
use crate::gives;
use crate::query::Query;
use crate::shared;

/// Removes the account with everything of its own. What a key has signed and what it shared stay without it.
pub async fn remove<C: Connection>(connection: &mut C, name: &AccountName) -> Result<(), DatabaseError> {
    // Whoever writes for the account either is done by now, or finds it gone.
    let query = Query::new(format!(
        "SELECT id, gives_evidence, gives_results FROM account WHERE name = $1 {}",
        C::FOR_UPDATE
    ))
    .text(name.as_str());
    let rows = connection.fetch(query).await.map_err(backend)?;
    let row = rows
        .first()
        .ok_or_else(|| DatabaseError::NoAccount(name.to_string()))?;
    let (account, gives) = gives::decode(row)?;

    shared::part(connection, account, gives.evidence).await?;
    if !C::FOR_UPDATE.is_empty() {
        // Who records a run again locks it before what refers to it; so does this.
        let builds =
            "SELECT id FROM build WHERE account = $1 OR id IN (SELECT build FROM result WHERE account = $1)
                      OR id IN (SELECT build FROM failure WHERE account = $1) ORDER BY id";
        let builds = Query::new(format!("{builds} {}", C::FOR_UPDATE)).int(account.0);
        connection.fetch(builds).await.map_err(backend)?;
    }
    for sql in results(gives.results) {
        let query = Query::new(sql).int(account.0);
        connection.fetch(query).await.map_err(backend)?;
    }
    counter::next_epoch(connection).await
}

/// Takes results, failures and runs away, but for those that are shared, those that answer others, and grounded results: others' are built
/// of these, whatever became of the account's sharing.
fn results(gives: bool) -> [String; 8] {
    let kept = if gives { "AND shared = 0" } else { "" };
    let grounded = "(shared = 1 AND EXISTS (SELECT 1 FROM grounded WHERE grounded.build = result.build))";
    let taken = if gives {
        kept.to_owned()
    } else {
        format!("AND NOT {grounded}")
    };
    let still = if gives { "shared" } else { "0" };
    [
        format!("DELETE FROM result WHERE account = $1 {taken}"),
        format!("DELETE FROM failure WHERE account = $1 {kept}"),
        "UPDATE result SET account = NULL WHERE account = $1".to_owned(),
        "UPDATE failure SET account = NULL WHERE account = $1".to_owned(),
        format!(
            "DELETE FROM build WHERE account = $1 {kept}
             AND NOT EXISTS (SELECT 1 FROM result WHERE result.build = build.id)
             AND NOT EXISTS (SELECT 1 FROM failure WHERE failure.build = build.id)"
        ),
        format!("UPDATE build SET account = NULL, shared = {still} WHERE account = $1"),
        // Who was told nothing on its word has nothing to trust it for.
        "DELETE FROM trust WHERE other = $1
         AND NOT EXISTS (SELECT 1 FROM told WHERE told.other = $1 AND told.account = trust.account)
         AND NOT EXISTS (SELECT 1 FROM told_realisation WHERE told_realisation.other = $1
                           AND told_realisation.account = trust.account)"
            .to_owned(),
        "DELETE FROM account WHERE id = $1".to_owned(),
    ]
}
