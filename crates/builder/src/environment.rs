//! What a builder is given besides a file system: arguments, environment and the files in its working directory, byte for byte as Nix
//! gives them (protocol facts of Nix 2.8 to 2.34, `LocalDerivationGoal::initEnv`).

use std::collections::BTreeMap;

use firn_core::{EnvironmentClass, InputMapping};
use firn_nix::derivation::{DerivationOptions, pass_as_file_name};
use firn_nix::rewrite::{placeholder, rewrite_strings};
use firn_nix::{BasicDerivation, DerivationOutput, STORE_DIR, StorePath, excerpt};
use firn_service::ports::RunFailure;

use crate::graph::{self, ReadFile};

/// Working directory of every build, as the build sees it.
pub const BUILD_DIR: &str = "/build";

/// Name and value of an environment variable.
pub type Variable = (Vec<u8>, Vec<u8>);

/// Variable names, values and arguments of one build, and the files that lie in its working directory when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// The executable, as the build sees it; of a builtin builder the name.
    pub program: Vec<u8>,
    /// The sandbox's helper does it: a builtin builder.
    pub own: bool,
    /// All arguments; the first is the base name of the program.
    pub argv: Vec<Vec<u8>>,
    /// Sorted by name.
    pub env: Vec<Variable>,
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
    /// The operator's values of `impureEnvVars`.
    pub variables: &'a BTreeMap<String, String>,
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

        if is_builtin(drv) {
            return Self::builtin(request, rewrite);
        }
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
                let value = std::str::from_utf8(name)
                    .ok()
                    .and_then(|name| request.variables.get(name));
                env.insert(
                    name.clone(),
                    value.map(|value| value.clone().into()).unwrap_or_default(),
                );
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
            own: false,
        })
    }

    /// A builtin builder is given the derivation's variables as they are, and the operator's as arguments.
    fn builtin(request: &Request<'_>, rewrite: impl Fn(&[u8]) -> Vec<u8>) -> Result<Self, RunFailure> {
        let Request { drv, drv_path, .. } = request;
        let operators = request
            .variables
            .iter()
            .map(|(name, value)| format!("{name}={value}").into());
        let env = drv.env.iter().map(|(name, value)| (name.clone(), value.clone()));
        Ok(Self {
            program: drv.builder.clone(),
            own: true,
            argv: std::iter::once(drv.builder.clone())
                .chain(operators.filter(|_| is_fixed(drv)))
                .collect(),
            env: variables(env.collect(), drv_path, rewrite)?,
            files: BTreeMap::new(),
        })
    }
}

/// Whether Nix itself does it.
pub(crate) fn is_builtin(drv: &BasicDerivation) -> bool {
    drv.builder.starts_with(b"builtin:")
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
) -> Result<Vec<Variable>, RunFailure> {
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
                    excerpt(&name)
                )));
            }
            Ok((rewrite(&name), rewrite(&value)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use firn_nix::ContentAddress;

    use super::*;

    const OUT: &str = "/nix/store/00000000000000000000000000000002-test";

    /// The environment of a derivation with these variables.
    fn environment(
        env: &[(&str, &str)],
        change: impl Fn(&mut BasicDerivation),
    ) -> Result<Environment, RunFailure> {
        let path = |text: &str| StorePath::parse(text.as_bytes()).unwrap();
        let out = path(OUT);
        let mut drv = BasicDerivation {
            builder: b"/nix/store/x/bin/bash".into(),
            args: vec![b"-e".into(), placeholder("out").into()],
            env: env
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            ..BasicDerivation::default()
        };
        drv.outputs
            .insert("out".into(), DerivationOutput::InputAddressed(out.clone()));
        change(&mut drv);
        let request = Request {
            drv_path: &path("/nix/store/00000000000000000000000000000003-test.drv"),
            drv: &drv,
            options: &DerivationOptions::of(&drv).unwrap(),
            outputs: &BTreeMap::from([("out".to_owned(), out)]),
            inputs: &InputMapping::default(),
            class: &EnvironmentClass {
                system: "x86_64-linux".into(),
                sandbox: "test".into(),
                extra: BTreeMap::new(),
                cores: 7,
            },
            variables: &BTreeMap::from([("http_proxy".to_owned(), "p".to_owned())]),
        };
        Environment::new(&request, &|_| Err(RunFailure::Cancelled))
    }

    fn lines(environment: &Environment) -> Vec<String> {
        let line = |(name, value): &Variable| [name, &b"="[..], value].concat().escape_ascii().to_string();
        environment.env.iter().map(line).collect()
    }

    #[test]
    fn own_variables_come_before_the_base_and_after_what_is_fixed() {
        let env = [
            ("HOME", "/mine"),
            ("TMPDIR", "/mine"),
            ("TERM", "dumb"),
            ("out", OUT),
            ("Z", "z"),
        ];
        let built = environment(&env, |_| ()).unwrap();
        let expected = [
            "HOME=/mine",
            "NIX_BUILD_CORES=7",
            "NIX_BUILD_TOP=/build",
            "NIX_LOG_FD=2",
            "NIX_STORE=/nix/store",
            "PATH=/path-not-set",
            "PWD=/build",
            "TEMP=/build",
            "TEMPDIR=/build",
            "TERM=xterm-256color",
            "TMP=/build",
            "TMPDIR=/build",
            "Z=z",
            &format!("out={OUT}"),
        ];
        assert_eq!(lines(&built), expected);
        assert_eq!(built.argv, [&b"bash"[..], b"-e", OUT.as_bytes()]);
    }

    #[test]
    fn fixed_outputs_get_more() {
        let ca = ContentAddress::parse(&format!("fixed:sha256:{}", "0".repeat(52))).unwrap();
        let fixed = |drv: &mut BasicDerivation| {
            drv.outputs
                .insert("out".into(), DerivationOutput::Fixed { path: None, ca });
        };
        let built = environment(
            &[("impureEnvVars", "http_proxy PATH"), ("http_proxy", "mine")],
            fixed,
        )
        .unwrap();
        let lines = lines(&built);
        for line in ["NIX_OUTPUT_CHECKED=1", "http_proxy=p", "PATH="] {
            assert!(lines.iter().any(|l| l == line), "{line} is not in {lines:?}");
        }
    }

    #[test]
    fn values_go_to_files() {
        let hole = placeholder("out");
        let env = [
            ("passAsFile", "text absent"),
            ("text", hole.as_str()),
            (hole.as_str(), "name"),
        ];
        let built = environment(&env, |_| ()).unwrap();
        let (file, contents) = built.files.first_key_value().unwrap();
        assert_eq!(contents, OUT.as_bytes());
        let lines = lines(&built);
        assert!(lines.contains(&format!("textPath=/build/{file}")) && lines.contains(&format!("{OUT}=name")));
        assert!(!lines.iter().any(|line| line.starts_with("text=")));
    }

    #[test]
    fn structured_attributes_are_all_that_is_given() {
        let built = environment(&[("__json", r#"{"a":1}"#), ("b", "2")], |_| ()).unwrap();
        assert_eq!(
            built.files.keys().collect::<Vec<_>>(),
            [".attrs.json", ".attrs.sh"]
        );
        let json = format!(r#"{{"a":1,"outputs":{{"out":"{OUT}"}}}}"#);
        assert_eq!(built.files[".attrs.json"], json.as_bytes());
        assert!(
            !lines(&built)
                .iter()
                .any(|line| line.starts_with("b=") || line.starts_with("__json"))
        );
    }

    #[test]
    fn names_that_no_program_can_be_given() {
        assert!(lines(&environment(&[("a=b", "c")], |_| ()).unwrap()).contains(&"a=b=c".to_owned()));
        assert!(environment(&[("", "c")], |_| ()).is_err());
        assert!(environment(&[("a", "b\0c")], |_| ()).is_err());
    }
}
