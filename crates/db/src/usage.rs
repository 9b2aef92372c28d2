//! What was used and spared, in sum.

use firn_core::{AccountId, Origin};
use firn_service::ports::{DatabaseError, RungUsage, Usage};

use crate::decode::Fields;
use crate::dialect::Connection;
use crate::error::backend;
use crate::query::Query;
use crate::requests;

/// Requests of a span of time, by rung, with the runs behind them. A request of the first two rungs has none.
pub fn of_requests(account: Option<AccountId>, since: u64, until: u64) -> Query {
    let whose = if account.is_some() { "account = $3 AND" } else { "" };
    let sql = format!(
        "SELECT asked.rung, CAST(sum(asked.times) AS BIGINT),
                CAST(coalesce(sum(asked.times * (build.cpu_user_us + build.cpu_system_us)), 0) AS BIGINT),
                CAST(coalesce(sum(asked.times * build.wall_ms), 0) AS BIGINT),
                CAST(coalesce(sum(asked.times * build.output_bytes), 0) AS BIGINT)
         FROM (SELECT rung, CASE WHEN rung IN ('already-valid', 'substituted') THEN NULL ELSE build END AS run,
                      count(*) AS times
               FROM request WHERE {whose} time >= $1 AND time < $2 GROUP BY 1, 2) AS asked
         LEFT JOIN build ON build.id = asked.run GROUP BY asked.rung"
    );
    span(Query::new(sql), account, since, until)
}

/// Bytes that came in a span of time, by origin; what came twice to one account counts once.
pub fn of_origins(account: Option<AccountId>, since: u64, until: u64) -> Query {
    let whose = if account.is_some() {
        "claim.account = $3 AND"
    } else {
        ""
    };
    let sql = format!(
        "SELECT origin, CAST(sum(size) AS BIGINT) FROM (
           SELECT claim.account, claim.origin, object.content, max(object.nar_size) AS size
           FROM claim JOIN object ON object.id = claim.object
           WHERE {whose} claim.origin <> 'built' AND claim.registered >= $1 AND claim.registered < $2
           GROUP BY claim.account, claim.origin, object.content) AS came
         GROUP BY origin"
    );
    span(Query::new(sql), account, since, until)
}

fn span(query: Query, account: Option<AccountId>, since: u64, until: u64) -> Query {
    // Nothing is stored above.
    let time = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    let query = query.int(time(since)).int(time(until));
    match account {
        Some(AccountId(account)) => query.int(account),
        None => query,
    }
}

fn of_claims(sql: &str, account: Option<AccountId>) -> Query {
    match account {
        Some(AccountId(account)) => {
            Query::new(sql.replace("{whose}", "WHERE claim.account = $1")).int(account)
        }
        None => Query::new(sql.replace("{whose}", "")),
    }
}

/// Sums over requests and claims.
pub async fn usage<C: Connection>(
    connection: &mut C,
    account: Option<AccountId>,
    since: u64,
    until: u64,
) -> Result<Usage, DatabaseError> {
    let mut usage = Usage::default();
    let requests = of_requests(account, since, until);
    for row in &connection.fetch(requests).await.map_err(backend)? {
        let mut fields = Fields::new("request", row);
        let rung = requests::rung(&mut fields)?;
        let sums = RungUsage {
            requests: fields.unsigned("count")?,
            cpu_us: fields.unsigned("cpu")?,
            wall_ms: fields.unsigned("wall_ms")?,
            output_bytes: fields.unsigned("output_bytes")?,
        };
        usage.rungs.insert(rung, sums);
    }
    let origins = of_origins(account, since, until);
    for row in &connection.fetch(origins).await.map_err(backend)? {
        let mut fields = Fields::new("claim", row);
        let origin = fields.origin("origin")?;
        fields.table = "object";
        let bytes = fields.unsigned("nar_size")?;
        match origin {
            Origin::Uploaded => usage.uploaded_bytes = bytes,
            Origin::Substituted => usage.substituted_bytes = bytes,
            Origin::Built => {}
        }
    }
    let paths = of_claims("SELECT count(DISTINCT path) FROM claim {whose}", account);
    let bytes = of_claims(
        "SELECT CAST(coalesce(sum(size), 0) AS BIGINT) FROM (
           SELECT max(object.nar_size) AS size FROM claim JOIN object ON object.id = claim.object
           {whose} GROUP BY object.content) AS contents",
        account,
    );
    for (table, query, sum) in [
        ("claim", paths, &mut usage.paths),
        ("object", bytes, &mut usage.bytes),
    ] {
        for row in &connection.fetch(query).await.map_err(backend)? {
            *sum = Fields::new(table, row).unsigned("nar_size")?;
        }
    }
    Ok(usage)
}
