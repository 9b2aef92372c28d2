//! `BasicDerivation`: a derivation without its graph and without its name.

use std::collections::BTreeMap;

use firn_nix::{BasicDerivation, CaMethod, ContentAddress, DerivationOutput, Hash};
use tokio::io::AsyncBufRead;

use crate::wire::{Decoder, Encoder, WireError};

impl<B: AsyncBufRead + Unpin + Send> Decoder<'_, B> {
    /// A derivation.
    ///
    /// # Errors
    /// [`WireError`]
    pub async fn basic_derivation(&mut self) -> Result<BasicDerivation, WireError> {
        let most = self.limits().list_items;
        let mut outputs = BTreeMap::new();
        for _ in 0..self.count(most, "outputs").await? {
            let name = self.text("output name").await?;
            let path = self.optional_path("output path").await?;
            let method_algo = self.text("output hash algorithm").await?;
            let hash = self.text("output hash").await?;
            let output = match (path, method_algo.as_str(), hash.as_str()) {
                (Some(path), "", "") => DerivationOutput::InputAddressed(path),
                (None, "", "") => DerivationOutput::Deferred,
                (_, "", _) => return Err(WireError::invalid("output hash", "has no algorithm")),
                (path, method_algo, hash) => {
                    let (method, algo) = CaMethod::parse_with_algo(method_algo)
                        .map_err(|e| WireError::invalid("output hash algorithm", e))?;
                    match (path, hash) {
                        (None, "") => DerivationOutput::Floating { method, algo },
                        (None, "impure") => DerivationOutput::Impure { method, algo },
                        (Some(_), "" | "impure") => {
                            return Err(WireError::invalid("output path", "known before the content"));
                        }
                        (path, hash) => {
                            let hash = Hash::parse_digest(algo, hash)
                                .map_err(|e| WireError::invalid("output hash", e))?;
                            let ca = ContentAddress { method, hash };
                            DerivationOutput::Fixed { path, ca }
                        }
                    }
                }
            };
            outputs.insert(name, output);
        }
        let input_srcs = self.paths("inputSrcs").await?;
        let platform = self.short("platform").await?;
        let builder = self.short("builder").await?;
        let mut args = Vec::new();
        for _ in 0..self.count(most, "args").await? {
            args.push(self.bytes("args").await?);
        }
        let mut env = BTreeMap::new();
        for _ in 0..self.count(most, "env").await? {
            env.insert(self.bytes("env name").await?, self.bytes("env value").await?);
        }
        Ok(BasicDerivation {
            outputs,
            input_srcs,
            platform,
            builder,
            args,
            env,
        })
    }
}

impl Encoder {
    /// A derivation.
    pub fn basic_derivation(&mut self, drv: &BasicDerivation) -> &mut Self {
        self.list(&drv.outputs, |e, (name, output)| {
            let (method_algo, hash) = match output {
                DerivationOutput::InputAddressed(_) | DerivationOutput::Deferred => Default::default(),
                DerivationOutput::Fixed { ca, .. } => (ca.method_algo(), ca.hash.hex()),
                DerivationOutput::Floating { method, algo } => {
                    (format!("{}{}", method.prefix(), algo.name()), String::new())
                }
                DerivationOutput::Impure { method, algo } => {
                    (format!("{}{}", method.prefix(), algo.name()), "impure".to_owned())
                }
            };
            e.text(name)
                .optional_path(output.path())
                .text(&method_algo)
                .text(&hash);
        })
        .paths(&drv.input_srcs)
        .bytes(&drv.platform)
        .bytes(&drv.builder)
        .list(&drv.args, |e, arg| {
            e.bytes(arg);
        })
        .list(&drv.env, |e, (name, value)| {
            e.bytes(name).bytes(value);
        })
    }
}
