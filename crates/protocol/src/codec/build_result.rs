//! `BuildResult` in the forms of both protocols.

use std::collections::BTreeMap;

use tokio::io::AsyncBufRead;

use super::{format_realisation, parse_realisation};
use crate::wire::{Decoder, Encoder, WireError};
use crate::{BuildResult, BuildStatus};

/// Which fields a version of a protocol carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResultFormat {
    /// How often, when, and whether repeated runs differed.
    pub times: bool,
    /// Processor time.
    pub cpu: bool,
    /// Realisations of the outputs.
    pub outputs: bool,
}

impl<B: AsyncBufRead + Unpin + Send> Decoder<'_, B> {
    /// A build result.
    ///
    /// # Errors
    /// [`WireError`]
    pub async fn build_result(&mut self, format: ResultFormat) -> Result<BuildResult, WireError> {
        let number = self.u64("status").await?;
        let status = usize::try_from(number)
            .ok()
            .and_then(|n| BuildStatus::ALL.get(n).copied())
            .ok_or_else(|| WireError::invalid("status", format!("no build status {number}")))?;
        let mut result = BuildResult::new(status, self.bytes("errorMsg").await?);
        if format.times {
            result.times_built = self.u64("timesBuilt").await?;
            result.is_non_deterministic = self.bool("isNonDeterministic").await?;
            result.start_time = self.u64("startTime").await?;
            result.stop_time = self.u64("stopTime").await?;
        }
        if format.cpu {
            result.cpu_user = self.optional_microseconds("cpuUser").await?;
            result.cpu_system = self.optional_microseconds("cpuSystem").await?;
        }
        if format.outputs {
            let mut outputs = BTreeMap::new();
            for _ in 0..self.count(self.limits().list_items, "builtOutputs").await? {
                self.bytes("builtOutputs").await?;
                let json = self.text("builtOutputs").await?;
                let (name, output) = parse_realisation(&json)?;
                outputs.insert(name, output);
            }
            result.built_outputs = outputs;
        }
        Ok(result)
    }

    async fn optional_microseconds(&mut self, field: &'static str) -> Result<Option<u64>, WireError> {
        match self.u64(field).await? {
            0 => Ok(None),
            1 => self.u64(field).await.map(Some),
            n => Err(WireError::invalid(field, format!("expected 0 or 1, found {n}"))),
        }
    }
}

impl Encoder {
    /// A build result.
    pub fn build_result(&mut self, result: &BuildResult, format: ResultFormat) -> &mut Self {
        self.u64(result.status as u64).bytes(&result.error_msg);
        if format.times {
            self.u64(result.times_built)
                .bool(result.is_non_deterministic)
                .u64(result.start_time)
                .u64(result.stop_time);
        }
        if format.cpu {
            for time in [result.cpu_user, result.cpu_system] {
                match time {
                    Some(time) => self.u64(1).u64(time),
                    None => self.u64(0),
                };
            }
        }
        if format.outputs {
            // Sorted by key, as Nix writes maps; the key begins with the derivation's hash, which may differ between outputs only
            // in results that were put together from several derivations.
            let entries: BTreeMap<String, String> = result
                .built_outputs
                .iter()
                .map(|(name, output)| format_realisation(name, output))
                .collect();
            self.list(&entries, |e, (id, json)| {
                e.text(id).text(json);
            });
        }
        self
    }
}
