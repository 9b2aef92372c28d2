//! Commands and their arguments.

use std::collections::BTreeSet;

use firn_nix::{BasicDerivation, PathInfo, StorePath};
use tokio::io::AsyncBufRead;

use super::{ServeBuildOptions, Version};
use crate::DerivedPath;
use crate::codec::{format_derived_path, parse_derived_path};
use crate::wire::{Decoder, Encoder, WireError};

/// A command of the serve protocol, by Nix's name (`ServeProto::Command`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
#[expect(
    missing_docs,
    reason = "the names are Nix's; `Request` documents the arguments"
)]
pub enum Command {
    QueryValidPaths = 1,
    QueryPathInfos = 2,
    DumpStorePath = 3,
    ImportPaths = 4,
    ExportPaths = 5,
    BuildPaths = 6,
    QueryClosure = 7,
    BuildDerivation = 8,
    AddToStoreNar = 9,
}

impl Command {
    /// Every command, in the order of its number.
    pub const ALL: [Self; 9] = [
        Self::QueryValidPaths,
        Self::QueryPathInfos,
        Self::DumpStorePath,
        Self::ImportPaths,
        Self::ExportPaths,
        Self::BuildPaths,
        Self::QueryClosure,
        Self::BuildDerivation,
        Self::AddToStoreNar,
    ];

    /// The command of that number.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|&c| c as u64 == number)
    }

    /// Nix's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::QueryValidPaths => "QueryValidPaths",
            Self::QueryPathInfos => "QueryPathInfos",
            Self::DumpStorePath => "DumpStorePath",
            Self::ImportPaths => "ImportPaths",
            Self::ExportPaths => "ExportPaths",
            Self::BuildPaths => "BuildPaths",
            Self::QueryClosure => "QueryClosure",
            Self::BuildDerivation => "BuildDerivation",
            Self::AddToStoreNar => "AddToStoreNar",
        }
    }
}

/// A request, without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Which of these are valid; with `substitute`, after fetching the missing ones. Temporary roots are not kept.
    QueryValidPaths {
        /// The paths.
        paths: BTreeSet<StorePath>,
        /// Whether to fetch.
        substitute: bool,
    },
    /// Information on the valid ones.
    QueryPathInfos(BTreeSet<StorePath>),
    /// A NAR.
    DumpStorePath(StorePath),
    /// An export stream follows.
    ImportPaths,
    /// Make these valid.
    BuildPaths(Vec<DerivedPath>, ServeBuildOptions),
    /// Everything these refer to.
    QueryClosure {
        /// Whether outputs of derivations in the closure belong to it.
        include_outputs: bool,
        /// Where it starts.
        paths: BTreeSet<StorePath>,
    },
    /// Run one derivation.
    BuildDerivation(StorePath, BasicDerivation, ServeBuildOptions),
    /// A NAR of `nar_size` bytes follows.
    AddToStoreNar(PathInfo),
}

impl Request {
    /// Reads the arguments of `command`.
    ///
    /// # Errors
    /// [`WireError`] names the argument; `ExportPaths`, which no client sends any more, is one.
    pub async fn decode<B: AsyncBufRead + Unpin + Send>(
        command: Command,
        d: &mut Decoder<'_, B>,
        version: Version,
    ) -> Result<Self, WireError> {
        Ok(match command {
            Command::QueryValidPaths => {
                d.bool("lock").await?;
                let substitute = d.bool("substitute").await?;
                let paths = d.paths("paths").await?;
                Self::QueryValidPaths { paths, substitute }
            }
            Command::QueryPathInfos => Self::QueryPathInfos(d.paths("paths").await?),
            Command::DumpStorePath => Self::DumpStorePath(d.path("path").await?),
            Command::ImportPaths => Self::ImportPaths,
            Command::ExportPaths => {
                return Err(WireError::invalid("command", "ExportPaths is not supported"));
            }
            Command::BuildPaths => {
                let mut targets = Vec::new();
                for _ in 0..d.count(d.limits().path_items, "derived paths").await? {
                    targets.push(parse_derived_path(&d.bytes("derived path").await?, true)?);
                }
                Self::BuildPaths(targets, ServeBuildOptions::decode(d, version).await?)
            }
            Command::QueryClosure => Self::QueryClosure {
                include_outputs: d.bool("includeOutputs").await?,
                paths: d.paths("paths").await?,
            },
            Command::BuildDerivation => Self::BuildDerivation(
                d.path("drvPath").await?,
                d.basic_derivation().await?,
                ServeBuildOptions::decode(d, version).await?,
            ),
            Command::AddToStoreNar => Self::AddToStoreNar(d.path_info().await?),
        })
    }

    /// The command that it is.
    #[must_use]
    pub const fn command(&self) -> Command {
        match self {
            Self::QueryValidPaths { .. } => Command::QueryValidPaths,
            Self::QueryPathInfos(_) => Command::QueryPathInfos,
            Self::DumpStorePath(_) => Command::DumpStorePath,
            Self::ImportPaths => Command::ImportPaths,
            Self::BuildPaths(..) => Command::BuildPaths,
            Self::QueryClosure { .. } => Command::QueryClosure,
            Self::BuildDerivation(..) => Command::BuildDerivation,
            Self::AddToStoreNar(_) => Command::AddToStoreNar,
        }
    }

    /// Writes the command's number and arguments, as a client does.
    pub fn encode(&self, version: Version, e: &mut Encoder) {
        e.u64(self.command() as u64);
        match self {
            Self::QueryValidPaths { paths, substitute } => {
                e.bool(false).bool(*substitute).paths(paths);
            }
            Self::QueryPathInfos(paths) => {
                e.paths(paths);
            }
            Self::DumpStorePath(path) => {
                e.path(path);
            }
            Self::ImportPaths => {}
            Self::BuildPaths(targets, options) => {
                e.list(targets, |e, target| {
                    e.text(&format_derived_path(target, true));
                });
                options.encode(version, e);
            }
            Self::QueryClosure {
                include_outputs,
                paths,
            } => {
                e.bool(*include_outputs).paths(paths);
            }
            Self::BuildDerivation(path, drv, options) => {
                e.path(path).basic_derivation(drv);
                options.encode(version, e);
            }
            Self::AddToStoreNar(info) => {
                e.path_info(info);
            }
        }
    }
}
