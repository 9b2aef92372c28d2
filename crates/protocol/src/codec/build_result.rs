//! `BuildResult` in the forms of both protocols.

use std::collections::{BTreeMap, BTreeSet};

use tokio::io::AsyncBufRead;

use super::{format_realisation, parse_realisation};
use crate::wire::{Decoder, Encoder, WireError};
use crate::{BuildResult, BuildStatus, BuiltOutput};

/// Which fields a version of a protocol carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResultFormat {
    /// How often, when, and whether repeated runs differed.
    pub times: bool,
    /// Processor time.
    pub cpu: bool,
    /// Realisations of the outputs.
    pub outputs: OutputsFormat,
}

/// How a build result says where its outputs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputsFormat {
    /// Not at all.
    None,
    /// JSON by id, with the derivation's hash.
    Json,
    /// Path and signatures by output name: `realisation-with-path-not-hash`.
    Paths,
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
        if format.outputs != OutputsFormat::None {
            for _ in 0..self.count(self.limits().list_items, "builtOutputs").await? {
                let key = self.text("builtOutputs").await?;
                let (name, output) = match format.outputs {
                    OutputsFormat::Paths => (key, self.built_output().await?),
                    _ => parse_realisation(&self.text("builtOutputs").await?)?,
                };
                result.built_outputs.insert(name, output);
            }
        }
        Ok(result)
    }

    async fn built_output(&mut self) -> Result<BuiltOutput, WireError> {
        Ok(BuiltOutput {
            drv_hash: String::new(),
            out_path: self.path("outPath").await?,
            signatures: BTreeSet::new(),
            path_signatures: self.texts("signatures").await?,
        })
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
        if format.outputs == OutputsFormat::Paths {
            self.list(&result.built_outputs, |e, (name, output)| {
                e.text(name).path(&output.out_path).texts(&output.path_signatures);
            });
        }
        if format.outputs == OutputsFormat::Json {
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
