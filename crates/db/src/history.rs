//! What earlier runs of packages took.

use std::collections::{BTreeMap, BTreeSet};

use firn_core::AccountId;
use firn_core::schedule::Past;
use firn_service::ports::DatabaseError;

use crate::decode::Fields;
use crate::dialect::{Connection, Row};
use crate::error::backend;
use crate::query::{Query, Value};

/// The latest runs of each package: the account's own, or those that others share.
pub fn latest<C: Connection>(
    packages: &BTreeSet<String>,
    system: &str,
    account: AccountId,
    own: bool,
    limit: u32,
) -> Query {
    let whose = if own { "one.account = $3" } else { "one.shared = 1" };
    let each = C::for_each_text(
        1,
        "build",
        &format!(
            "SELECT one.id FROM build AS one
             WHERE {whose} AND one.package = asked.value AND one.system = $2 AND one.state = 'built'
             ORDER BY one.started DESC, one.id DESC LIMIT $4"
        ),
    );
    let known = if own {
        "1 = 1"
    } else {
        "(build.account IS NULL OR build.account <> $3 AND EXISTS (
           SELECT 1 FROM account AS giver WHERE giver.id = build.account AND giver.gives_results = 1))"
    };
    Query::new(format!(
        "SELECT build.package, build.wall_ms, build.cpu_user_us, build.cpu_system_us, build.memory_peak
         {each} WHERE {known} ORDER BY build.package, build.started DESC, build.id DESC"
    ))
    .bind(Value::Texts(packages.iter().cloned().collect()))
    .text(system)
    .int(account.0)
    .int(i64::from(limit))
}

/// Adds what rows of [`latest`] say.
pub fn add(
    history: &mut BTreeMap<String, Vec<Past>>,
    rows: &[impl Row],
    own: bool,
) -> Result<(), DatabaseError> {
    for row in rows {
        let mut fields = Fields::new("build", row);
        let package = fields.text("package")?;
        fields.label = package;
        let past = Past {
            own,
            wall_ms: fields.unsigned("wall_ms")?,
            cpu_us: fields
                .unsigned("cpu_user_us")?
                .saturating_add(fields.unsigned("cpu_system_us")?),
            memory_peak: fields.opt_unsigned("memory_peak")?,
        };
        history.entry(package.to_owned()).or_default().push(past);
    }
    Ok(())
}

/// All of it.
pub async fn history<C: Connection>(
    connection: &mut C,
    packages: &BTreeSet<String>,
    system: &str,
    account: AccountId,
    takes: bool,
    limit: u32,
) -> Result<BTreeMap<String, Vec<Past>>, DatabaseError> {
    let mut history = BTreeMap::new();
    for own in [true, false] {
        if own || takes {
            let query = latest::<C>(packages, system, account, own, limit);
            let rows = connection.fetch(query).await.map_err(backend)?;
            add(&mut history, &rows, own)?;
        }
    }
    Ok(history)
}
