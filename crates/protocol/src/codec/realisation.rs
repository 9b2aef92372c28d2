//! Realisations: as JSON in the form of Nix up to 2.34, and as fields since.

use std::collections::BTreeSet;

use firn_nix::StorePath;
use firn_nix::realisation::{DrvId, DrvOutput, Realisation};
use serde_json::{Map, Value};
use tokio::io::AsyncBufRead;

use crate::BuiltOutput;
use crate::wire::{Decoder, Encoder, WireError};

const FIELD: &str = "builtOutputs";

/// Key and JSON: `sha256:<drv hash>!<output>` and an object with the same id.
#[must_use]
pub fn format_realisation(name: &str, output: &BuiltOutput) -> (String, String) {
    let id = format!("sha256:{}!{name}", output.drv_hash);
    let signatures = output.signatures.iter().cloned().map(Value::String).collect();
    let mut object = Map::new();
    object.insert("dependentRealisations".to_owned(), Value::Object(Map::new()));
    object.insert("id".to_owned(), Value::String(id.clone()));
    object.insert(
        "outPath".to_owned(),
        Value::String(output.out_path.base_name().to_owned()),
    );
    object.insert("signatures".to_owned(), Value::Array(signatures));
    (id, Value::Object(object).to_string())
}

/// Output name and what is said of it. `dependentRealisations` is not kept: nothing fills it any more.
///
/// # Errors
/// [`WireError::Invalid`]
pub fn parse_realisation(json: &str) -> Result<(String, BuiltOutput), WireError> {
    let invalid = |reason: &str| WireError::invalid(FIELD, reason);
    let value: Value = serde_json::from_str(json).map_err(|e| WireError::invalid(FIELD, e))?;
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let id = text("id").ok_or_else(|| invalid("no id"))?;
    let (drv_hash, name) = id
        .strip_prefix("sha256:")
        .and_then(|rest| rest.split_once('!'))
        .ok_or_else(|| invalid("malformed id"))?;
    let out_path = text("outPath").ok_or_else(|| invalid("no outPath"))?;
    let out_path =
        StorePath::from_base_name(out_path.as_bytes()).map_err(|e| WireError::invalid(FIELD, e))?;
    let mut signatures = BTreeSet::new();
    for signature in value
        .get("signatures")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let signature = signature
            .as_str()
            .ok_or_else(|| invalid("a signature is not text"))?;
        signatures.insert(signature.to_owned());
    }
    let output = BuiltOutput {
        drv_hash: drv_hash.to_owned(),
        out_path,
        signatures,
        path_signatures: BTreeSet::new(),
    };
    Ok((name.to_owned(), output))
}

impl<B: AsyncBufRead + Unpin + Send> Decoder<'_, B> {
    /// Which output of which derivation: a text with the derivation's hash, or `with_paths` its path and the name.
    ///
    /// # Errors
    /// [`WireError`]
    pub async fn drv_output(&mut self, with_paths: bool) -> Result<DrvOutput, WireError> {
        if !with_paths {
            let id = self.text("id").await?;
            return id.parse().map_err(|e| WireError::invalid("id", e));
        }
        let drv = self.path("drvPath").await?;
        let output = self.text("outputName").await?;
        DrvOutput::of_path(drv, output).map_err(|e| WireError::invalid("outputName", e))
    }

    /// A realisation in the form of these versions.
    ///
    /// # Errors
    /// [`WireError`]
    pub async fn realisation(&mut self, form: RealisationForm) -> Result<Realisation, WireError> {
        if form == RealisationForm::Json {
            let json = self.bytes("realisation").await?;
            return Realisation::parse(&json).map_err(|e| WireError::invalid("realisation", e));
        }
        let with_paths = form == RealisationForm::Fields;
        let id = self.drv_output(with_paths).await?;
        if !with_paths {
            let path = self.short("outPath").await?;
            let path = StorePath::from_base_name(&path).map_err(|e| WireError::invalid("outPath", e))?;
            return Ok(Realisation::unsigned(id, path));
        }
        let mut realisation = Realisation::unsigned(id, self.path("outPath").await?);
        for signature in self.texts("signatures").await? {
            let signature = signature
                .parse()
                .map_err(|e| WireError::invalid("signatures", e))?;
            realisation.signatures.insert(signature);
        }
        Ok(realisation)
    }
}

/// How a session writes realisations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RealisationForm {
    /// Id and base name: worker protocol 1.27 to 1.30.
    Names,
    /// JSON: since 1.31.
    Json,
    /// Derivation, output, path and signatures: `realisation-with-path-not-hash`.
    Fields,
}

impl Encoder {
    /// As [`Decoder::drv_output`] reads it.
    pub fn drv_output(&mut self, id: &DrvOutput) -> &mut Self {
        match &id.drv {
            DrvId::Modulo(_) => self.text(&id.to_string()),
            DrvId::Resolved(drv) => self.path(drv).text(&id.output),
        }
    }

    /// As [`Decoder::realisation`] reads it.
    pub fn realisation(&mut self, realisation: &Realisation, form: RealisationForm) -> &mut Self {
        match form {
            RealisationForm::Names => self
                .drv_output(&realisation.id)
                .text(realisation.out_path.base_name()),
            RealisationForm::Json => self.text(&realisation.to_json()),
            RealisationForm::Fields => self.drv_output(&realisation.id).unkeyed_realisation(realisation),
        }
    }

    /// Path and signatures.
    pub fn unkeyed_realisation(&mut self, realisation: &Realisation) -> &mut Self {
        let signatures: BTreeSet<String> = realisation.signatures.iter().map(ToString::to_string).collect();
        self.path(&realisation.out_path).texts(&signatures)
    }
}
