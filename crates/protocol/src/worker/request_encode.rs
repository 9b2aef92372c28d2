//! Requests as a client writes them.

use firn_nix::{CaMethod, HashAlgo};

use super::{Op, Request, Version};
use crate::codec::format_derived_path;
use crate::wire::Encoder;
use crate::{BuildMode, ClientOptions, DerivedPath};

impl Request {
    /// The operation that it asks for.
    #[must_use]
    pub const fn op(&self) -> Op {
        match self {
            Self::IsValidPath(_) => Op::IsValidPath,
            Self::QueryReferrers(_) => Op::QueryReferrers,
            Self::AddToStore(_) => Op::AddToStore,
            Self::AddTextToStore { .. } => Op::AddTextToStore,
            Self::BuildPaths(..) => Op::BuildPaths,
            Self::EnsurePath(_) => Op::EnsurePath,
            Self::AddTempRoot(_) => Op::AddTempRoot,
            Self::AddIndirectRoot(_) => Op::AddIndirectRoot,
            Self::SyncWithGC => Op::SyncWithGC,
            Self::FindRoots => Op::FindRoots,
            Self::QueryDeriver(_) => Op::QueryDeriver,
            Self::SetOptions(_) => Op::SetOptions,
            Self::CollectGarbage => Op::CollectGarbage,
            Self::QuerySubstitutablePathInfo(_) => Op::QuerySubstitutablePathInfo,
            Self::QueryDerivationOutputs(_) => Op::QueryDerivationOutputs,
            Self::QueryAllValidPaths => Op::QueryAllValidPaths,
            Self::QueryPathInfo(_) => Op::QueryPathInfo,
            Self::QueryDerivationOutputNames(_) => Op::QueryDerivationOutputNames,
            Self::QueryPathFromHashPart(_) => Op::QueryPathFromHashPart,
            Self::QuerySubstitutablePathInfos(_) => Op::QuerySubstitutablePathInfos,
            Self::QueryValidPaths { .. } => Op::QueryValidPaths,
            Self::QuerySubstitutablePaths(_) => Op::QuerySubstitutablePaths,
            Self::QueryValidDerivers(_) => Op::QueryValidDerivers,
            Self::OptimiseStore => Op::OptimiseStore,
            Self::VerifyStore => Op::VerifyStore,
            Self::BuildDerivation(..) => Op::BuildDerivation,
            Self::AddSignatures(..) => Op::AddSignatures,
            Self::NarFromPath(_) => Op::NarFromPath,
            Self::AddToStoreNar(_) => Op::AddToStoreNar,
            Self::QueryMissing(_) => Op::QueryMissing,
            Self::QueryDerivationOutputMap(_) => Op::QueryDerivationOutputMap,
            Self::RegisterDrvOutput(_) => Op::RegisterDrvOutput,
            Self::QueryRealisation(_) => Op::QueryRealisation,
            Self::AddMultipleToStore => Op::AddMultipleToStore,
            Self::AddBuildLog(_) => Op::AddBuildLog,
            Self::BuildPathsWithResults(..) => Op::BuildPathsWithResults,
            Self::AddPermRoot => Op::AddPermRoot,
        }
    }

    /// Writes the operation's number and arguments. Arguments that a [`Request`] does not keep are written as Nix's defaults.
    pub fn encode(&self, version: Version, e: &mut Encoder) {
        e.u64(self.op() as u64);
        match self {
            Self::IsValidPath(path)
            | Self::QueryReferrers(path)
            | Self::EnsurePath(path)
            | Self::AddTempRoot(path)
            | Self::QueryDeriver(path)
            | Self::QuerySubstitutablePathInfo(path)
            | Self::QueryDerivationOutputs(path)
            | Self::QueryPathInfo(path)
            | Self::QueryDerivationOutputNames(path)
            | Self::QueryValidDerivers(path)
            | Self::NarFromPath(path)
            | Self::QueryDerivationOutputMap(path) => e.path(path),
            Self::AddToStore(add) if version.has_framed_add() => {
                let kind = if add.method == CaMethod::Text {
                    ""
                } else {
                    "fixed:"
                };
                e.text(&add.name)
                    .text(&format!("{kind}{}{}", add.method.prefix(), add.algo.name()))
                    .paths(&add.references)
                    .bool(false)
            }
            Self::AddToStore(add) => {
                let recursive = add.method == CaMethod::Nar;
                e.text(&add.name)
                    .bool(!(recursive && add.algo == HashAlgo::Sha256))
                    .bool(recursive)
                    .text(add.algo.name())
            }
            Self::AddTextToStore {
                name,
                text,
                references,
            } => e.text(name).bytes(text).paths(references),
            Self::BuildPaths(targets, mode) | Self::BuildPathsWithResults(targets, mode) => {
                derived_paths(targets, version, e).u64(mode_number(*mode))
            }
            Self::AddIndirectRoot(path) => e.bytes(path),
            Self::QueryRealisation(id) => e.drv_output(id),
            Self::QueryPathFromHashPart(hash_part) => e.text(hash_part),
            Self::SyncWithGC | Self::FindRoots | Self::QueryAllValidPaths | Self::OptimiseStore => e,
            Self::SetOptions(options) => set_options(options, e),
            Self::CollectGarbage => e.u64(2).u64(0).u64(0).u64(u64::MAX).u64(0).u64(0).u64(0),
            Self::QuerySubstitutablePathInfos(paths) if version.has_substitutable_map() => {
                e.list(paths, |e, path| {
                    e.path(path).text("");
                })
            }
            Self::QuerySubstitutablePathInfos(paths) | Self::QuerySubstitutablePaths(paths) => e.paths(paths),
            Self::QueryValidPaths { paths, substitute } => {
                e.paths(paths);
                if version.has_substitute_flag() {
                    e.bool(*substitute);
                }
                e
            }
            Self::VerifyStore | Self::AddMultipleToStore => e.bool(false).bool(false),
            Self::BuildDerivation(path, drv, mode) => {
                e.path(path).basic_derivation(drv).u64(mode_number(*mode))
            }
            Self::AddSignatures(path, signatures) => e.path(path).texts(signatures),
            Self::AddToStoreNar(info) => e.path_info(info).bool(false).bool(false),
            Self::QueryMissing(targets) => derived_paths(targets, version, e),
            Self::RegisterDrvOutput(realisation) => e.realisation(realisation, version.realisation_form()),
            Self::AddBuildLog(path) => e.text(path.base_name()),
            Self::AddPermRoot => e
                .text("/nix/store/00000000000000000000000000000000-root")
                .text(""),
        };
    }
}

const fn mode_number(mode: BuildMode) -> u64 {
    match mode {
        BuildMode::Normal => 0,
        BuildMode::Repair => 1,
        BuildMode::Check => 2,
    }
}

fn derived_paths<'e>(targets: &[DerivedPath], version: Version, e: &'e mut Encoder) -> &'e mut Encoder {
    e.list(targets, |e, target| {
        e.text(&format_derived_path(target, !version.has_plain_derivations()));
    })
}

fn set_options<'e>(options: &ClientOptions, e: &'e mut Encoder) -> &'e mut Encoder {
    for _ in 0..5 {
        e.u64(0);
    }
    let builds = &options.builds;
    e.u64(builds.max_silent_time.unwrap_or(0));
    for _ in 0..6 {
        e.u64(0);
    }
    let overrides = [
        ("max-build-log-size", builds.max_log_size),
        ("narinfo-cache-negative-ttl", options.negative_ttl),
        ("timeout", builds.timeout),
    ];
    let set: Vec<_> = overrides
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    e.list(set, |e, (name, value)| {
        e.text(name).text(&value.to_string());
    })
}
