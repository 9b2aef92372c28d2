//! `builds`: what happened.

use clap::Args;
use firn_core::Rung;
use firn_service::ports::{Ports, RequestRecord};
use firn_service::{Desk, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Reply;

/// `builds`
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub struct Builds {
    /// How many, the newest first
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: u32,
}

impl Builds {
    pub(super) async fn run<P: Ports>(self, desk: &Desk<P>) -> Result<Reply, StoreError> {
        let requests = desk.builds(self.limit).await?;
        Ok(Reply::table(
            requests.iter().map(row).collect(),
            &["time", "rung", "wall_ms", "reason"],
            "no requests yet",
        ))
    }
}

fn row(request: &RequestRecord) -> Value {
    json!({
        "derivation": request.drv_path.to_string(),
        "rung": request.rung.map(Rung::name),
        "reason": request.reason,
        "build": request.build.map(|build| build.to_string()),
        "time": request.time,
        "wall_ms": request.wall_ms,
    })
}
