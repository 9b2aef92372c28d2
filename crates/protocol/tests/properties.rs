//! Random values: what is written is read again, and what is cut off anywhere is an error, at once.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test shows by panicking what is wrong"
)]

use std::collections::{BTreeMap, BTreeSet};

use firn_nix::realisation::{DrvId, DrvOutput, Realisation};
use firn_nix::{
    BasicDerivation, CaMethod, ContentAddress, DerivationOutput, Hash, HashAlgo, NarHash, PathInfo, StorePath,
};
use firn_protocol::serve::{self, ServeBuildOptions};
use firn_protocol::wire::{Decoder, Encoder, NarExtent, WireError, WireLimits};
use firn_protocol::worker::{AddToStore, Op, Request, Version};
use firn_protocol::{
    BuildMode, BuildOptions, BuildResult, BuildStatus, BuiltOutput, ClientOptions, DerivedPath, OutputsSpec,
};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option::of;
use proptest::prelude::*;

fn path() -> impl Strategy<Value = StorePath> {
    (any::<[u8; 20]>(), "[a-z][a-z0-9+_.-]{0,12}")
        .prop_map(|(hash, name)| StorePath::new(&hash, &name).unwrap())
}

fn drv_path() -> impl Strategy<Value = StorePath> {
    (any::<[u8; 20]>(), "[a-z]{1,5}\\.drv").prop_map(|(hash, name)| StorePath::new(&hash, &name).unwrap())
}

fn paths() -> impl Strategy<Value = BTreeSet<StorePath>> {
    btree_set(path(), 0..4)
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..20)
}

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,9}"
}

fn hash() -> impl Strategy<Value = Hash> {
    (0..4usize, bytes()).prop_map(|(n, data)| HashAlgo::ALL[n].digest(&data))
}

fn method() -> impl Strategy<Value = CaMethod> {
    prop_oneof![Just(CaMethod::Flat), Just(CaMethod::Nar), Just(CaMethod::Git)]
}

fn ca() -> impl Strategy<Value = ContentAddress> {
    (method(), hash()).prop_map(|(method, hash)| ContentAddress { method, hash })
}

prop_compose! {
    fn path_info()(
        path in path(), deriver in of(path()), nar_hash in any::<[u8; 32]>(), references in paths(),
        numbers in any::<[u64; 2]>(), ultimate in any::<bool>(), signatures in btree_set(text(), 0..3), ca in of(ca()),
    ) -> PathInfo {
        let [registration_time, nar_size] = numbers;
        PathInfo {
            path, deriver, nar_hash: NarHash::new(nar_hash), references, registration_time, nar_size, ultimate,
            signatures, ca,
        }
    }
}

fn output() -> impl Strategy<Value = DerivationOutput> {
    prop_oneof![
        path().prop_map(DerivationOutput::InputAddressed),
        (of(path()), ca()).prop_map(|(path, ca)| DerivationOutput::Fixed { path, ca }),
        (method(), hash()).prop_map(|(method, h)| DerivationOutput::Floating {
            method,
            algo: h.algo()
        }),
        (method(), hash()).prop_map(|(method, h)| DerivationOutput::Impure {
            method,
            algo: h.algo()
        }),
        Just(DerivationOutput::Deferred),
    ]
}

prop_compose! {
    fn derivation()(
        outputs in btree_map("[a-z]{1,5}", output(), 0..3), input_srcs in paths(), platform in bytes(),
        builder in bytes(), args in vec(bytes(), 0..3), env in btree_map(bytes(), bytes(), 0..4),
    ) -> BasicDerivation {
        BasicDerivation { outputs, input_srcs, platform, builder, args, env }
    }
}

fn mode() -> impl Strategy<Value = BuildMode> {
    prop_oneof![
        Just(BuildMode::Normal),
        Just(BuildMode::Repair),
        Just(BuildMode::Check)
    ]
}

/// Paths that mean the same before and after 1.30.
fn targets() -> impl Strategy<Value = Vec<DerivedPath>> {
    let names = btree_set("[a-z]{1,5}", 1..3).prop_map(OutputsSpec::Names);
    let outputs = prop_oneof![Just(OutputsSpec::All), names];
    let built =
        (drv_path(), outputs).prop_map(|(drv_path, outputs)| DerivedPath::Built { drv_path, outputs });
    let opaque = path()
        .prop_filter("not a derivation", |p| !p.is_derivation())
        .prop_map(DerivedPath::Opaque);
    vec(prop_oneof![opaque, built], 0..4)
}

fn limits() -> impl Strategy<Value = BuildOptions> {
    (of(1..9u64), of(1..9u64), of(1..9u64)).prop_map(|(max_silent_time, timeout, max_log_size)| {
        BuildOptions {
            max_silent_time,
            timeout,
            max_log_size,
        }
    })
}

/// In the form that all versions have.
fn realisation() -> impl Strategy<Value = Realisation> {
    (any::<[u8; 32]>(), "[a-z]{1,9}", path()).prop_map(|(hash, output, out_path)| {
        let hash = Hash::new(firn_nix::HashAlgo::Sha256, &hash).unwrap();
        let drv = DrvId::Modulo(hash);
        Realisation::unsigned(DrvOutput { drv, output }, out_path)
    })
}

fn worker_request() -> impl Strategy<Value = Request> {
    prop_oneof![
        path().prop_map(Request::QueryReferrers),
        path().prop_map(Request::NarFromPath),
        path().prop_map(Request::AddBuildLog),
        (limits(), of(0..9u64)).prop_map(|(builds, negative_ttl)| {
            Request::SetOptions(ClientOptions { builds, negative_ttl })
        }),
        targets().prop_map(Request::QueryMissing),
        path_info().prop_map(Request::AddToStoreNar),
        paths().prop_map(Request::QuerySubstitutablePathInfos),
        (targets(), mode()).prop_map(|(t, m)| Request::BuildPathsWithResults(t, m)),
        (path(), derivation(), mode()).prop_map(|(p, d, m)| Request::BuildDerivation(p, d, m)),
        (path(), btree_set(text(), 0..3)).prop_map(|(p, s)| Request::AddSignatures(p, s)),
        (text(), bytes(), paths()).prop_map(|(name, text, references)| Request::AddTextToStore {
            name,
            text,
            references
        }),
        (
            text(),
            prop_oneof![Just(CaMethod::Nar), Just(CaMethod::Flat)],
            hash()
        )
            .prop_map(|(name, method, h)| {
                let (algo, references) = (h.algo(), BTreeSet::new());
                Request::AddToStore(AddToStore {
                    name,
                    method,
                    algo,
                    references,
                })
            }),
        Just(Request::CollectGarbage),
        realisation().prop_map(Request::RegisterDrvOutput),
        realisation().prop_map(|r| Request::QueryRealisation(r.id)),
        Just(Request::AddPermRoot),
        Just(Request::VerifyStore),
    ]
}

prop_compose! {
    fn serve_options()(limits in limits(), repeats in 0..3u64, enforce_determinism in any::<bool>(), keep_failed in any::<bool>())
    -> ServeBuildOptions {
        ServeBuildOptions { limits, repeats, enforce_determinism, keep_failed }
    }
}

fn serve_request() -> impl Strategy<Value = serve::Request> {
    use serve::Request;
    prop_oneof![
        (paths(), any::<bool>())
            .prop_map(|(paths, substitute)| Request::QueryValidPaths { paths, substitute }),
        paths().prop_map(Request::QueryPathInfos),
        (paths(), any::<bool>()).prop_map(|(paths, include_outputs)| Request::QueryClosure {
            include_outputs,
            paths
        }),
        path_info().prop_map(Request::AddToStoreNar),
        (targets(), serve_options()).prop_map(|(t, o)| Request::BuildPaths(t, o)),
        (path(), derivation(), serve_options()).prop_map(|(p, d, o)| Request::BuildDerivation(p, d, o)),
    ]
}

prop_compose! {
    fn build_result()(
        status in 0..15usize, error_msg in bytes(), numbers in any::<[u64; 3]>(), is_non_deterministic in any::<bool>(),
        cpu_user in of(any::<u64>()), cpu_system in of(any::<u64>()),
        outputs in btree_map("[a-z]{1,5}", (path(), btree_set(text(), 0..3)), 0..3),
    ) -> BuildResult {
        let built_outputs: BTreeMap<String, BuiltOutput> = outputs
            .into_iter()
            .map(|(name, (out_path, signatures))| {
                (name, BuiltOutput { drv_hash: "ab".repeat(32), out_path, signatures, path_signatures: BTreeSet::new() })
            })
            .collect();
        let [times_built, start_time, stop_time] = numbers;
        BuildResult {
            times_built, start_time, stop_time, is_non_deterministic, cpu_user, cpu_system, built_outputs,
            ..BuildResult::new(BuildStatus::ALL[status], error_msg)
        }
    }
}

/// Runs a decoder that reads from memory and so never waits.
fn now<T>(work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    match work
        .as_mut()
        .poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
    {
        std::task::Poll::Ready(done) => done,
        std::task::Poll::Pending => panic!("a decoder waits for memory"),
    }
}

fn decode_worker(mut raw: &[u8], version: Version) -> Result<(Request, usize), WireError> {
    let limits = WireLimits::default();
    now(async {
        let mut d = Decoder::new(&mut raw, &limits);
        let number = d.u64("operation").await?;
        let op = Op::from_number(number).ok_or(WireError::Ended { field: "operation" })?;
        let request = Request::decode(op, &mut d, version).await?;
        Ok((request, raw.len()))
    })
}

fn decode_serve(mut raw: &[u8], version: serve::Version) -> Result<(serve::Request, usize), WireError> {
    let limits = WireLimits::default();
    now(async {
        let mut d = Decoder::new(&mut raw, &limits);
        let number = d.u64("command").await?;
        let command = serve::Command::from_number(number).ok_or(WireError::Ended { field: "command" })?;
        let request = serve::Request::decode(command, &mut d, version).await?;
        Ok((request, raw.len()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn worker_requests_go_both_ways_and_break_off_anywhere(request in worker_request(), minor in 18..=38u8) {
        let version = Version::new(minor);
        let mut e = Encoder::default();
        request.encode(version, &mut e);
        let (found, left) = decode_worker(e.as_bytes(), version).unwrap();
        prop_assert_eq!(left, 0);
        prop_assert_eq!(found, request);
        for cut in 0..e.as_bytes().len() {
            let error = decode_worker(&e.as_bytes()[..cut], version).unwrap_err();
            prop_assert!(matches!(error, WireError::Ended { .. }), "{}", error);
        }
    }

    #[test]
    fn serve_requests_go_both_ways_and_break_off_anywhere(request in serve_request()) {
        let version = serve::Version::NEWEST;
        let mut e = Encoder::default();
        request.encode(version, &mut e);
        let (found, left) = decode_serve(e.as_bytes(), version).unwrap();
        prop_assert_eq!(left, 0);
        prop_assert_eq!(found, request);
        for cut in 0..e.as_bytes().len() {
            let error = decode_serve(&e.as_bytes()[..cut], version).unwrap_err();
            prop_assert!(matches!(error, WireError::Ended { .. }), "{}", error);
        }
    }

    /// Any eight bytes of a request replaced by a length that nobody can mean.
    #[test]
    fn huge_numbers_are_refused_or_harmless(request in worker_request(), at in any::<prop::sample::Index>(), bits in 40..64u32) {
        let mut e = Encoder::default();
        request.encode(Version::NEWEST, &mut e);
        let mut raw = e.as_bytes().to_vec();
        let word = at.index(raw.len() / 8) * 8;
        raw[word..word + 8].copy_from_slice(&(1u64 << bits).to_le_bytes());
        let _ = decode_worker(&raw, Version::NEWEST);
    }

    #[test]
    fn any_bytes_are_a_request_or_an_error(raw in vec(any::<u8>(), 0..200), op in 0..48u8) {
        let mut bytes = vec![op, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend_from_slice(&raw);
        let _ = decode_worker(&bytes, Version::NEWEST);
        let _ = decode_serve(&bytes, serve::Version::NEWEST);
    }

    #[test]
    fn build_results_go_both_ways(result in build_result()) {
        let format = Version::NEWEST.result_format();
        let mut e = Encoder::default();
        e.build_result(&result, format);
        let limits = WireLimits::default();
        let found = now(Decoder::new(&mut e.as_bytes(), &limits).build_result(format)).unwrap();
        prop_assert_eq!(&found, &result);
        // With paths, what is said in the other form is left out.
        let format = Version::NEWEST.with_realisation_paths().result_format();
        let mut result = result;
        for output in result.built_outputs.values_mut() {
            output.drv_hash.clear();
            output.path_signatures = std::mem::take(&mut output.signatures);
        }
        let mut e = Encoder::default();
        e.build_result(&result, format);
        let found = now(Decoder::new(&mut e.as_bytes(), &limits).build_result(format)).unwrap();
        prop_assert_eq!(found, result);
    }

    /// The order of a set on the wire does not matter.
    #[test]
    fn sets_may_come_in_any_order(paths in paths()) {
        let mut e = Encoder::default();
        e.paths(paths.iter().rev().collect::<Vec<_>>());
        let limits = WireLimits::default();
        prop_assert_eq!(now(Decoder::new(&mut e.as_bytes(), &limits).paths("")).unwrap(), paths);
    }

    /// A NAR ends where it ends, however it is cut and whatever follows.
    #[test]
    fn archives_know_their_end(contents in vec(bytes(), 0..4), after in bytes(), piece in 1..40usize) {
        let mut e = Encoder::default();
        for word in ["nix-archive-1", "(", "type", "directory"] {
            e.text(word);
        }
        for (n, file) in contents.iter().enumerate() {
            for word in ["entry", "(", "name", &format!(")({n}"), "node", "(", "type", "regular"] {
                e.text(word);
            }
            if n % 2 == 0 {
                e.text("executable").text("");
            }
            e.text("contents").bytes(file).text(")").text(")");
        }
        e.text(")");
        let len = e.as_bytes().len();
        e.raw(&after);
        let mut extent = NarExtent::default();
        let mut used = 0;
        for piece in e.as_bytes().chunks(piece) {
            prop_assert_eq!(extent.is_done(), used == len);
            used += extent.advance(piece).unwrap();
        }
        prop_assert!(extent.is_done());
        prop_assert_eq!(used, len);
    }
}
