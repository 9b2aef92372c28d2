//! Which contents are spoken of.

use std::collections::BTreeSet;

use firn_nix::NarHash;
use firn_service::ports::DatabaseError;

use crate::decode::Fields;
use crate::dialect::Connection;
use crate::error::backend;
use crate::query::Query;

/// Every content of a claim, of a shared signature, of what somebody was told or of an output of a remembered build. Reads every claim of everybody.
pub async fn contents<C: Connection>(connection: &mut C) -> Result<BTreeSet<NarHash>, DatabaseError> {
    let query = Query::new(
        "SELECT DISTINCT content FROM object
         WHERE id IN (SELECT object FROM claim UNION SELECT object FROM signed WHERE shared > 0
                      UNION SELECT object FROM told UNION SELECT object FROM build_output)",
    );
    let rows = connection.fetch(query).await.map_err(backend)?;
    rows.iter()
        .map(|row| Ok(NarHash::new(Fields::new("object", row).array("content")?)))
        .collect()
}
