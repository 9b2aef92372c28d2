//! `signing-key`

use clap::Subcommand;
use firn_service::ports::Ports;
use firn_service::{Desk, SigningKeyRow, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Reply;

/// `signing-key …`
#[derive(Clone, Debug, Subcommand, Serialize, Deserialize)]
pub enum SigningKey {
    /// Public keys for others to trust; the active one signs what comes
    Show,
    /// Sign with a new key from now on; earlier signatures stay
    Rotate,
    /// Sign with a key of your own from now on; its secret, as `nix key generate-secret` writes it, is the next line of input
    Import,
}

impl SigningKey {
    pub(super) async fn run<P: Ports>(
        self,
        desk: &Desk<P>,
        secret: Option<String>,
    ) -> Result<Reply, StoreError> {
        let key = match self {
            Self::Show => {
                let rows = desk.signing_keys().await?.iter().map(row).collect();
                return Ok(Reply::table(
                    rows,
                    &["key", "active", "created"],
                    "no signing keys; make one with: signing-key rotate",
                ));
            }
            Self::Rotate => desk.rotate_signing_key().await?,
            Self::Import => {
                let secret = secret.ok_or_else(|| StoreError::new("the secret key is missing"))?;
                desk.import_signing_key(&secret).await?
            }
        };
        Ok(Reply::done(
            row(&key),
            &format!("what comes is signed by {} now", key.public),
        ))
    }
}

fn row(key: &SigningKeyRow) -> Value {
    json!({ "key": key.public, "active": key.active, "created": key.created })
}
