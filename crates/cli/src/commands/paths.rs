//! `forget`: taking back what an account has.

use clap::Args;
use firn_service::ports::Ports;
use firn_service::{Desk, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Reply;

/// `forget`
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
#[command(after_help = "\
What the account uploaded, fetched or had built counts for it no more. A path stays valid where other evidence admits it, \
such as a signature by a trusted key. Other accounts are not touched, but for those that had the path from this one.")]
pub struct Forget {
    /// /nix/store/…
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
}

impl Forget {
    pub(super) async fn run<P: Ports>(self, desk: &Desk<P>) -> Result<Reply, StoreError> {
        let forgotten = desk.forget(&self.paths).await?;
        let sentence = match forgotten {
            0 => "there was nothing of this account's own to forget".to_owned(),
            1 => "1 piece of evidence is forgotten".to_owned(),
            more => format!("{more} pieces of evidence are forgotten"),
        };
        Ok(Reply::done(json!({ "forgotten": forgotten }), &sentence))
    }
}
