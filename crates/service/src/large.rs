//! Derivations so large that reading them would keep others waiting: they are read in turns, fairly by account, and not on the threads
//! that serve everybody; and their memory is counted for as long as a run has them.

use std::sync::Arc;
use std::time::Duration;

use firn_nix::BasicDerivation;
use firn_protocol::{Held, StoreError};

use crate::ports::Ports;
use crate::turns::Turn;
use crate::{AccountStore, House};

/// Bytes that are read on the spot: about a millisecond.
const LARGE: usize = 256 << 10;

/// How long a derivation waits for memory that others hold.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// Copies of a derivation while it is run: what was asked, its environment, and what the sandbox's process is told.
const COPIES: u64 = 4;

/// About how many bytes of memory a derivation takes.
pub(crate) fn size(drv: &BasicDerivation) -> usize {
    let strings = drv
        .args
        .iter()
        .chain(drv.env.iter().flat_map(|(name, value)| [name, value]));
    let strings: usize = strings.map(|s| s.len() + 64).sum();
    strings + 256 * (drv.input_srcs.len() + drv.outputs.len())
}

/// Work on so many bytes, within a turn for it.
pub(crate) fn read<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes > LARGE {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}

impl<P: Ports> House<P> {
    /// A turn to read so many bytes, where one is needed.
    pub(crate) async fn turn_to_read(&self, bytes: usize) -> Option<Turn> {
        if bytes <= LARGE {
            return None;
        }
        Some(self.large.turn().await)
    }
}

impl<P: Ports> AccountStore<P> {
    /// Memory for a derivation, to be held until its run has ended.
    pub(crate) async fn memory_for(&self, drv: &BasicDerivation) -> Result<Arc<Held>, StoreError> {
        let mut held = self.house.memory.hold(self.account.id.0);
        let taken = held.use_within(COPIES * size(drv) as u64, PATIENCE).await;
        taken.map_err(|busy| StoreError::new(busy.to_string()))?;
        Ok(Arc::new(held))
    }
}
