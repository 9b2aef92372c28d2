//! The methods that there are, from the source text.

pub const STORE: [&str; 21] = [
    "meet",
    "query_valid_paths",
    "query_path_infos",
    "query_path_from_hash_part",
    "query_all_valid_paths",
    "query_referrers",
    "query_valid_derivers",
    "query_closure",
    "query_derivation_outputs",
    "query_missing",
    "nar_from_path",
    "begin_upload",
    "add_to_store",
    "add_signatures",
    "query_realisation",
    "register_realisation",
    "ensure_path",
    "build_derivation",
    "build_paths",
    "remember_misses",
    "add_build_log",
];

pub const UPLOAD: [&str; 4] = ["add", "add_unsized", "checkpoint", "commit"];

pub const DESK: [&str; 35] = [
    "account",
    "settings",
    "set",
    "trusted_keys",
    "add_trusted_key",
    "remove_trusted_key",
    "substituters",
    "add_substituter",
    "remove_substituter",
    "relations",
    "trust",
    "let_read",
    "logins",
    "set_login",
    "remove_login",
    "signing_keys",
    "rotate_signing_key",
    "import_signing_key",
    "ssh_keys",
    "add_ssh_key",
    "remove_ssh_key",
    "explain",
    "builds",
    "forget",
    "explain_build",
    "compare_contents",
    "reproducibility",
    "usage",
    "usage_by_day",
    "running",
    "log",
    "refresh_substituters",
    "cache_states",
    "stop",
    "propose_ssh_key",
];

const PROTOCOL: &str = include_str!("../../../protocol/src/store.rs");
const DESKS: [&str; 9] = [
    include_str!("../../src/desk.rs"),
    include_str!("../../src/explain_build.rs"),
    include_str!("../../src/compare_contents.rs"),
    include_str!("../../src/ledger.rs"),
    include_str!("../../src/usage.rs"),
    include_str!("../../src/build_logs.rs"),
    include_str!("../../src/substituters.rs"),
    include_str!("../../src/stop.rs"),
    include_str!("../../src/new_keys.rs"),
];

fn name(line: &str, before: &str) -> Option<String> {
    let rest = line.trim_start().strip_prefix(before)?;
    let end = rest.find(['(', '<'])?;
    Some(rest[..end].to_owned())
}

/// The methods of a trait of the protocol, in order.
pub fn methods_of_trait(of: &str) -> Vec<String> {
    let (_, body) = PROTOCOL.split_once(&format!("pub trait {of}: ")).unwrap();
    let (body, _) = body.split_once("\n}").unwrap();
    body.lines().filter_map(|line| name(line, "fn ")).collect()
}

/// The public methods of the desk, in order, in however many blocks.
pub fn methods_of_desk() -> Vec<String> {
    let public = |line| name(line, "pub async fn ").or_else(|| name(line, "pub fn "));
    let blocks = DESKS
        .iter()
        .flat_map(|file| file.split("impl<P: Ports> Desk<P> {").skip(1));
    let bodies = blocks.filter_map(|block| Some(block.split_once("\n}")?.0));
    bodies.flat_map(|body| body.lines().filter_map(public)).collect()
}
