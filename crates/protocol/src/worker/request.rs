//! Requests: what follows an operation's number, without a body.

use std::collections::{BTreeMap, BTreeSet};

use firn_nix::realisation::{DrvOutput, Realisation};
use firn_nix::{BasicDerivation, CaMethod, HashAlgo, PathInfo, StorePath, excerpt};
use tokio::io::AsyncBufRead;

use super::{Op, Version};
use crate::codec::{RealisationForm, parse_derived_path};
use crate::wire::{Decoder, WireError};
use crate::{BuildMode, BuildOptions, ClientOptions, DerivedPath};

/// Arguments of `AddToStore`, common to its two forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddToStore {
    /// Name part of the path.
    pub name: String,
    /// How the bytes are hashed.
    pub method: CaMethod,
    /// With what.
    pub algo: HashAlgo,
    /// References; none before 1.25.
    pub references: BTreeSet<StorePath>,
}

/// A request. Values that Firn has no use for (repair, signature checks, indirect roots) are read and not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the variants are the operations of the same name, the fields their arguments"
)]
pub enum Request {
    IsValidPath(StorePath),
    QueryReferrers(StorePath),
    /// A body follows: framed since 1.25, before that a bare NAR.
    AddToStore(AddToStore),
    AddTextToStore {
        name: String,
        text: Vec<u8>,
        references: BTreeSet<StorePath>,
    },
    BuildPaths(Vec<DerivedPath>, BuildMode),
    EnsurePath(StorePath),
    AddTempRoot(StorePath),
    AddIndirectRoot(Vec<u8>),
    SyncWithGC,
    FindRoots,
    QueryDeriver(StorePath),
    SetOptions(ClientOptions),
    CollectGarbage,
    QuerySubstitutablePathInfo(StorePath),
    QueryDerivationOutputs(StorePath),
    QueryAllValidPaths,
    QueryPathInfo(StorePath),
    QueryDerivationOutputNames(StorePath),
    QueryPathFromHashPart(String),
    QuerySubstitutablePathInfos(BTreeSet<StorePath>),
    QueryValidPaths {
        paths: BTreeSet<StorePath>,
        substitute: bool,
    },
    QuerySubstitutablePaths(BTreeSet<StorePath>),
    QueryValidDerivers(StorePath),
    OptimiseStore,
    VerifyStore,
    BuildDerivation(StorePath, BasicDerivation, BuildMode),
    AddSignatures(StorePath, BTreeSet<String>),
    NarFromPath(StorePath),
    /// A NAR follows: framed since 1.23, before that asked for piece by piece.
    AddToStoreNar(PathInfo),
    QueryMissing(Vec<DerivedPath>),
    QueryDerivationOutputMap(StorePath),
    RegisterDrvOutput(Realisation),
    QueryRealisation(DrvOutput),
    /// A framed body follows: count, then path information and NAR of each.
    AddMultipleToStore,
    /// A framed log follows.
    AddBuildLog(StorePath),
    BuildPathsWithResults(Vec<DerivedPath>, BuildMode),
    AddPermRoot,
}

impl Request {
    /// Reads the arguments of `op`.
    ///
    /// # Errors
    /// [`WireError`] names the argument.
    pub async fn decode<B: AsyncBufRead + Unpin + Send>(
        op: Op,
        d: &mut Decoder<'_, B>,
        version: Version,
    ) -> Result<Self, WireError> {
        Ok(match op {
            Op::IsValidPath => Self::IsValidPath(d.path("path").await?),
            Op::QueryReferrers => Self::QueryReferrers(d.path("path").await?),
            Op::AddToStore => Self::AddToStore(add_to_store(d, version).await?),
            Op::AddTextToStore => Self::AddTextToStore {
                name: d.text("name").await?,
                text: d.bytes("text").await?,
                references: d.paths("references").await?,
            },
            Op::BuildPaths => Self::BuildPaths(derived_paths(d, version).await?, mode(d).await?),
            Op::EnsurePath => Self::EnsurePath(d.path("path").await?),
            Op::AddTempRoot => Self::AddTempRoot(d.path("path").await?),
            Op::AddIndirectRoot => Self::AddIndirectRoot(d.short("path").await?),
            Op::SyncWithGC => Self::SyncWithGC,
            Op::FindRoots => Self::FindRoots,
            Op::QueryDeriver => Self::QueryDeriver(d.path("path").await?),
            Op::SetOptions => Self::SetOptions(set_options(d).await?),
            Op::CollectGarbage => {
                d.u64("action").await?;
                d.paths("pathsToDelete").await?;
                for field in ["ignoreLiveness", "maxFreed", "reserved", "reserved", "reserved"] {
                    d.u64(field).await?;
                }
                Self::CollectGarbage
            }
            Op::QuerySubstitutablePathInfo => Self::QuerySubstitutablePathInfo(d.path("path").await?),
            Op::QueryDerivationOutputs => Self::QueryDerivationOutputs(d.path("path").await?),
            Op::QueryAllValidPaths => Self::QueryAllValidPaths,
            Op::QueryPathInfo => Self::QueryPathInfo(d.path("path").await?),
            Op::QueryDerivationOutputNames => Self::QueryDerivationOutputNames(d.path("path").await?),
            Op::QueryPathFromHashPart => Self::QueryPathFromHashPart(d.text("hashPart").await?),
            Op::QuerySubstitutablePathInfos if version.has_substitutable_map() => {
                let mut paths = BTreeSet::new();
                for _ in 0..d.count(d.limits().path_items, "paths").await? {
                    paths.insert(d.path("paths").await?);
                    d.optional_ca("ca").await?;
                }
                Self::QuerySubstitutablePathInfos(paths)
            }
            Op::QuerySubstitutablePathInfos => Self::QuerySubstitutablePathInfos(d.paths("paths").await?),
            Op::QueryValidPaths => Self::QueryValidPaths {
                paths: d.paths("paths").await?,
                substitute: version.has_substitute_flag() && d.bool("substitute").await?,
            },
            Op::QuerySubstitutablePaths => Self::QuerySubstitutablePaths(d.paths("paths").await?),
            Op::QueryValidDerivers => Self::QueryValidDerivers(d.path("path").await?),
            Op::OptimiseStore => Self::OptimiseStore,
            Op::VerifyStore => {
                d.bool("checkContents").await?;
                d.bool("repair").await?;
                Self::VerifyStore
            }
            Op::BuildDerivation => Self::BuildDerivation(
                d.path("drvPath").await?,
                d.basic_derivation().await?,
                mode(d).await?,
            ),
            Op::AddSignatures => Self::AddSignatures(d.path("path").await?, d.texts("sigs").await?),
            Op::NarFromPath => Self::NarFromPath(d.path("path").await?),
            Op::AddToStoreNar => {
                let info = d.path_info().await?;
                d.bool("repair").await?;
                d.bool("dontCheckSigs").await?;
                Self::AddToStoreNar(info)
            }
            Op::QueryMissing => Self::QueryMissing(derived_paths(d, version).await?),
            Op::QueryDerivationOutputMap => Self::QueryDerivationOutputMap(d.path("path").await?),
            Op::RegisterDrvOutput => {
                Self::RegisterDrvOutput(d.realisation(version.realisation_form()).await?)
            }
            Op::QueryRealisation => {
                let with_paths = version.realisation_form() == RealisationForm::Fields;
                Self::QueryRealisation(d.drv_output(with_paths).await?)
            }
            Op::AddMultipleToStore => {
                d.bool("repair").await?;
                d.bool("dontCheckSigs").await?;
                Self::AddMultipleToStore
            }
            Op::AddBuildLog => {
                let base = d.short("path").await?;
                let path = StorePath::from_base_name(&base).map_err(|e| WireError::invalid("path", e))?;
                Self::AddBuildLog(path)
            }
            Op::BuildPathsWithResults => {
                Self::BuildPathsWithResults(derived_paths(d, version).await?, mode(d).await?)
            }
            Op::AddPermRoot => {
                d.path("path").await?;
                d.short("gcRoot").await?;
                Self::AddPermRoot
            }
        })
    }
}

async fn add_to_store<B: AsyncBufRead + Unpin + Send>(
    d: &mut Decoder<'_, B>,
    version: Version,
) -> Result<AddToStore, WireError> {
    const FIELD: &str = "content address method";
    let name = d.text("name").await?;
    if version.has_framed_add() {
        let text = d.text(FIELD).await?;
        let (fixed, rest) = match text.strip_prefix("fixed:") {
            Some(rest) => (true, rest),
            None => (false, text.as_str()),
        };
        let (method, algo) = CaMethod::parse_with_algo(rest).map_err(|e| WireError::invalid(FIELD, e))?;
        if fixed == (method == CaMethod::Text) {
            let reason = format!("'{}' is none", excerpt(&text));
            return Err(WireError::invalid(FIELD, reason));
        }
        let references = d.paths("references").await?;
        d.bool("repair").await?;
        return Ok(AddToStore {
            name,
            method,
            algo,
            references,
        });
    }
    let fixed = d.bool("fixed").await?;
    let recursive = d.bool("recursive").await?;
    let algo = HashAlgo::parse(&d.text("hashAlgo").await?).map_err(|e| WireError::invalid("hashAlgo", e))?;
    // Not "fixed" is short for the recursive SHA-256 of sources.
    let (method, algo) = match (fixed, recursive) {
        (false, _) => (CaMethod::Nar, HashAlgo::Sha256),
        (true, true) => (CaMethod::Nar, algo),
        (true, false) => (CaMethod::Flat, algo),
    };
    Ok(AddToStore {
        name,
        method,
        algo,
        references: BTreeSet::new(),
    })
}

/// Bytes of the longest override that is of interest, name or value: those are numbers.
const MAX_OVERRIDE: usize = 64;

async fn set_options<B: AsyncBufRead + Unpin + Send>(
    d: &mut Decoder<'_, B>,
) -> Result<ClientOptions, WireError> {
    for field in [
        "keepFailed",
        "keepGoing",
        "tryFallback",
        "verbosity",
        "maxBuildJobs",
    ] {
        d.u64(field).await?;
    }
    let max_silent_time = d.u64("maxSilentTime").await?;
    for field in [
        "useBuildHook",
        "verboseBuild",
        "logType",
        "printBuildTrace",
        "buildCores",
        "useSubstitutes",
    ] {
        d.u64(field).await?;
    }
    let mut overrides = BTreeMap::new();
    for _ in 0..d.count(d.limits().list_items, "overrides").await? {
        let (name, value) = (d.short("override name").await?, d.bytes("override value").await?);
        if name.len().max(value.len()) <= MAX_OVERRIDE {
            overrides.insert(name, value);
        }
    }
    let number = |names: &[&str]| -> Option<u64> {
        let value = names.iter().find_map(|name| overrides.get(name.as_bytes()))?;
        std::str::from_utf8(value).ok()?.parse().ok()
    };
    let limit = |names: [&str; 2]| number(&names).filter(|&n| n > 0);
    let builds = BuildOptions {
        max_silent_time: limit(["max-silent-time", "build-max-silent-time"])
            .or(Some(max_silent_time).filter(|&n| n > 0)),
        timeout: limit(["timeout", "build-timeout"]),
        max_log_size: limit(["max-build-log-size", "build-max-log-size"]),
    };
    Ok(ClientOptions {
        builds,
        negative_ttl: number(&["narinfo-cache-negative-ttl"]),
    })
}

async fn derived_paths<B: AsyncBufRead + Unpin + Send>(
    d: &mut Decoder<'_, B>,
    version: Version,
) -> Result<Vec<DerivedPath>, WireError> {
    let mut paths = Vec::new();
    for _ in 0..d.count(d.limits().path_items, "derived paths").await? {
        let raw = d.bytes("derived path").await?;
        paths.push(parse_derived_path(&raw, !version.has_plain_derivations())?);
    }
    Ok(paths)
}

async fn mode<B: AsyncBufRead + Unpin + Send>(d: &mut Decoder<'_, B>) -> Result<BuildMode, WireError> {
    match d.u64("buildMode").await? {
        0 => Ok(BuildMode::Normal),
        1 => Ok(BuildMode::Repair),
        2 => Ok(BuildMode::Check),
        n => Err(WireError::invalid("buildMode", format!("no build mode {n}"))),
    }
}
