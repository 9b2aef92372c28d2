//! What a builder is given besides a file system: arguments, environment and the files in its working directory, byte for byte as Nix
//! gives them (protocol facts of Nix 2.8 to 2.34, `LocalDerivationGoal::initEnv`).

use std::collections::BTreeMap;

use firn_core::{EnvironmentClass, InputMapping};
use firn_nix::derivation::{DerivationOptions, pass_as_file_name};
use firn_nix::rewrite::{placeholder, rewrite_strings};
use firn_nix::{BasicDerivation, DerivationOutput, STORE_DIR, StorePath};
use firn_service::ports::RunFailure;

use crate::graph::{self, ReadFile};

/// Working directory of every build, as the build sees it.
pub const BUILD_DIR: &str = "/build";

/// Variable names, values and arguments of one build, and the files that lie in its working directory when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// The executable, as the build sees it.
    pub program: Vec<u8>,
    /// All arguments; the first is the base name of the program.
    pub argv: Vec<Vec<u8>>,
    /// Sorted by name.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// By name in [`BUILD_DIR`].
    pub files: BTreeMap<String, Vec<u8>>,
}

/// What of a request shapes a build's environment.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Named in errors.
    pub drv_path: &'a StorePath,
    /// What to run.
    pub drv: &'a BasicDerivation,
    /// Its attributes.
    pub options: &'a DerivationOptions,
    /// Where each output goes.
    pub outputs: &'a BTreeMap<String, StorePath>,
    /// The whole input closure.
    pub inputs: &'a InputMapping,
    /// Gives `NIX_BUILD_CORES`.
    pub class: &'a EnvironmentClass,
}

type Env = BTreeMap<Vec<u8>, Vec<u8>>;

fn put(env: &mut Env, name: &str, value: &str) {
    env.insert(name.into(), value.into());
}

impl Environment {
    /// The environment of a build. `read` gives the bytes of `.drv` inputs, for `exportReferencesGraph`.
    ///
    /// # Errors
    /// [`RunFailure::InputRejected`] for attributes that cannot be followed; whatever `read` fails with.
    pub fn new(request: &Request<'_>, read: &ReadFile<'_>) -> Result<Self, RunFailure> {
        let Request { drv, outputs, .. } = request;
        let mut rewrites: Vec<(String, String)> = outputs
            .iter()
            .map(|(name, path)| (placeholder(name), path.to_string()))
            .collect();
        // Nix goes by the order of placeholders, which shows only where one is put into another.
        rewrites.sort();
        let rewrite = |bytes: &[u8]| rewrite_strings(bytes, &rewrites);

        let mut env = Env::new();
        put(&mut env, "PATH", "/path-not-set");
        put(&mut env, "HOME", "/homeless-shelter");
        put(&mut env, "NIX_STORE", STORE_DIR);
        put(&mut env, "NIX_BUILD_CORES", &request.class.cores.to_string());

        let mut files = BTreeMap::new();
        if let Some(attrs) = graph::structured_attrs(request, read)? {
            files.insert(".attrs.json".to_owned(), attrs.json);
            files.insert(".attrs.sh".to_owned(), attrs.sh);
            put(
                &mut env,
                "NIX_ATTRS_JSON_FILE",
                &format!("{BUILD_DIR}/.attrs.json"),
            );
            put(&mut env, "NIX_ATTRS_SH_FILE", &format!("{BUILD_DIR}/.attrs.sh"));
        } else {
            for (name, value) in &drv.env {
                if request.options.pass_as_file.contains(name) {
                    let file = pass_as_file_name(name);
                    let path = format!("{BUILD_DIR}/{file}");
                    env.insert([name, &b"Path"[..]].concat(), path.into());
                    files.insert(file, rewrite(value));
                } else {
                    env.insert(name.clone(), value.clone());
                }
            }
            files.extend(graph::registration_files(request, read)?);
        }

        for name in ["NIX_BUILD_TOP", "TMPDIR", "TEMPDIR", "TMP", "TEMP", "PWD"] {
            put(&mut env, name, BUILD_DIR);
        }
        if is_fixed(drv) {
            put(&mut env, "NIX_OUTPUT_CHECKED", "1");
            // Nix takes these from the daemon's own environment; ours has nothing for builds.
            for name in &request.options.impure_env_vars {
                env.insert(name.clone(), Vec::new());
            }
        }
        put(&mut env, "NIX_LOG_FD", "2");
        put(&mut env, "TERM", "xterm-256color");

        let program = drv.builder.clone();
        let base_name = program.rsplit(|&b| b == b'/').next().unwrap_or_default().to_vec();
        Ok(Self {
            argv: std::iter::once(base_name)
                .chain(drv.args.iter().map(|arg| rewrite(arg)))
                .collect(),
            env: variables(env, request.drv_path, rewrite)?,
            files,
            program,
        })
    }
}

/// Whether the result is checked against a known hash.
pub(crate) fn is_fixed(drv: &BasicDerivation) -> bool {
    drv.outputs
        .values()
        .any(|output| matches!(output, DerivationOutput::Fixed { .. }))
}

/// Rewrites names and values. What the kernel gets is `name=value`, so a name with `=` in it ends at the first one.
fn variables(
    env: Env,
    drv_path: &StorePath,
    rewrite: impl Fn(&[u8]) -> Vec<u8>,
) -> Result<Vec<(Vec<u8>, Vec<u8>)>, RunFailure> {
    env.into_iter()
        .map(|(name, value)| {
            let (name, value) = match name.iter().position(|&b| b == b'=') {
                Some(at) => {
                    let (name, rest) = name.split_at(at);
                    let rest = rest.strip_prefix(b"=").unwrap_or_default();
                    (name.to_vec(), [rest, b"=", &value].concat())
                }
                None => (name, value),
            };
            if name.is_empty() || name.contains(&0) || value.contains(&0) {
                return Err(RunFailure::InputRejected(format!(
                    "derivation '{drv_path}' has an environment variable '{}' that no program can be given",
                    name.escape_ascii()
                )));
            }
            Ok((rewrite(&name), rewrite(&value)))
        })
        .collect()
}
