//! Garbage that a crash left: contents that no row speaks of.

use std::collections::BTreeSet;

use firn_nix::NarHash;

use crate::House;
use crate::ports::{Ports, Views as _};

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Contents that stay.
    pub kept: usize,
    /// Contents that are gone.
    pub removed: usize,
}

impl<P: Ports> House<P> {
    /// Removes contents that nothing speaks of. Only before the first session: an upload publishes its bytes before its rows.
    ///
    /// # Errors
    /// A text for the operator that names what could not be read or removed.
    pub async fn sweep(&self) -> Result<Swept, String> {
        let mut wanted: BTreeSet<NarHash> = self.db.contents().await.map_err(|e| e.to_string())?;
        wanted.extend(self.settings.extra.values());
        let content = self.content.clone();
        tokio::task::spawn_blocking(move || {
            let mut swept = Swept::default();
            for hash in content.list() {
                let hash = hash.map_err(|e| e.to_string())?;
                if wanted.contains(&hash) {
                    swept.kept += 1;
                } else {
                    content.remove(&hash).map_err(|e| e.to_string())?;
                    swept.removed += 1;
                }
            }
            Ok(swept)
        })
        .await
        .map_err(|e| e.to_string())?
    }
}
