//! Where two contents differ, in words.

use firn_content::{Change, Difference};
use firn_nix::{NarHash, excerpt};

use crate::House;
use crate::ports::Ports;

/// Places that are looked for.
pub(crate) const MAX_PLACES: usize = 1000;

/// Places that are told in one line.
const MAX_TOLD: usize = 5;

impl<P: Ports> House<P> {
    /// Where two contents differ. Empty when one of them is lost.
    pub(crate) async fn differences(&self, first: NarHash, second: NarHash) -> Vec<Difference> {
        let content = self.content.clone();
        let compared = tokio::task::spawn_blocking(move || content.diff(&first, &second, MAX_PLACES)).await;
        match compared {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot compare two contents");
                Vec::new()
            }
            Err(_) => Vec::new(),
        }
    }

    /// The same, as the end of a sentence.
    pub(crate) async fn places(&self, first: NarHash, second: NarHash) -> String {
        let found = self.differences(first, second).await;
        let told: Vec<String> = found.iter().take(MAX_TOLD).map(shown).collect();
        match found.len() {
            0 => String::new(),
            all if all > MAX_TOLD => format!(": {} and {} more places", told.join(", "), all - MAX_TOLD),
            _ => format!(": {}", told.join(", ")),
        }
    }
}

/// `lib/libz.a (differs from byte 64 on)`
#[must_use]
pub fn shown(difference: &Difference) -> String {
    let Difference { path, change } = difference;
    match (path.is_empty(), change) {
        (true, change) => format!("the file itself ({change})"),
        (false, Change::Bytes { .. } | Change::Length { .. }) => {
            format!("{} ({change})", excerpt(path))
        }
        (false, change) => format!("{}: {change}", excerpt(path)),
    }
}
