//! Making staged contents valid: bytes first, rows second, so that a row never speaks of bytes that power loss could take.

use std::sync::Arc;

use firn_content::Staged;
use firn_core::{Claim, KeyId, Object, Origin};
use firn_nix::StorePath;
use firn_protocol::StoreError;

use crate::ports::{DatabaseError, Ports};
use crate::resolve::failed;
use crate::{AccountStore, signing};

impl<P: Ports> AccountStore<P> {
    /// Publishes contents and records claims for them, durably. Contents that were published before may be left out of `staged`.
    pub(crate) async fn keep(&self, staged: Vec<Staged>, claims: &[Claim]) -> Result<(), StoreError> {
        let disk = |e: firn_content::ContentError| {
            tracing::error!(error = %e, "cannot keep contents");
            StoreError::new(
                "internal error: the service could not write to its disk, and nothing of this was kept; send it again later (the \
                 operator's log has the details)",
            )
        };
        let terms = self.terms().await?;
        let trusted = &terms.settings.trusted_public_keys;
        // Before the bytes: what is refused leaves nothing.
        let (mut proofs, mut registry) = self.house.prove(claims, trusted).await?;
        self.house.content.publish(staged).await.map_err(disk)?;
        // Also those that were published before: what was lost since then is not to be spoken of.
        let contents = claims.iter().map(|claim| claim.object.content);
        self.house.content.sync(contents).await.map_err(disk)?;
        let kept: Arc<[Claim]> = claims.into();
        loop {
            let recorded = self
                .house
                .record_claims(self.account.id, &kept, proofs, registry)
                .await;
            match recorded {
                // Somebody began to trust a key a moment ago: it may be the one of an open signature.
                Err(DatabaseError::KeysChanged) => {
                    (proofs, registry) = self.house.prove(claims, trusted).await?;
                }
                other => return other.map_err(failed),
            }
        }
    }

    /// Makes outputs of builds valid for the account, durably, each with the derivation that it is from. Their contents were published before.
    pub(crate) async fn keep_built(
        &self,
        built: impl Iterator<Item = (&Object, Option<StorePath>)>,
    ) -> Result<(), StoreError> {
        let key = signing::active_key(&self.house.db, self.account.id)
            .await
            .map_err(failed)?;
        let registered = self.house.now();
        let claim = |(object, deriver): (&Object, Option<StorePath>)| Claim {
            object: object.clone(),
            origin: Origin::Built,
            deriver,
            signatures: key.iter().map(|k| signing::sign(k, object)).collect(),
            registered,
            cache: None,
            shareable: true,
        };
        let claims: Arc<[Claim]> = built.map(claim).collect();
        // The account's own signature is for its clients; it makes nothing known to others (no proof goes with it).
        self.house
            .record_claims(self.account.id, &claims, Vec::new(), KeyId(0))
            .await
            .map_err(failed)
    }
}
