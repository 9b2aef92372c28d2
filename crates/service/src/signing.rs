//! Keys that sign for accounts. They stay in this process and its database: no sandbox and no helper process ever gets one.

use firn_core::{AccountId, AccountName, Object};
use firn_nix::signature::SecretKey;

use crate::StoreError;
use crate::ports::{DatabaseError, NewSigningKey, Policies};

/// A new key for an account. Its name says whose it is, and which of the account's in order.
pub(crate) fn new_key(account: &AccountName) -> Result<NewSigningKey, StoreError> {
    let internal =
        |e: getrandom::Error| StoreError::new(format!("internal error: cannot make a signing key: {e}"));
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(internal)?;
    Ok(NewSigningKey::Numbered {
        stem: format!("firn-{account}"),
        seed,
    })
}

/// The key that signs what comes for the account, if it has one.
pub(crate) async fn active_key(
    db: &impl Policies,
    account: AccountId,
) -> Result<Option<SecretKey>, DatabaseError> {
    let keys = db.signing_keys(account).await?;
    let Some(active) = keys.into_iter().find(|k| k.active) else {
        return Ok(None);
    };
    match active.secret.parse() {
        Ok(key) => Ok(Some(key)),
        Err(error) => Err(DatabaseError::Inconsistent {
            table: "signing_key",
            what: format!("the key of account {}: {error}", account.0),
        }),
    }
}

/// `name:base64` over the object.
pub(crate) fn sign(key: &SecretKey, object: &Object) -> String {
    key.sign(object.fingerprint().as_bytes()).to_string()
}
