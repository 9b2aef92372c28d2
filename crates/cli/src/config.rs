//! `firn.toml`, and what holds without it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use firn_core::{Effective, Isolation, Layer, Level, layered};
use firn_sandbox::IpRange;
use serde::Deserialize;

use crate::options::Options;

/// Everything an operator can set. Unknown keys are errors.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[derive(Default)]
pub struct Config {
    /// The file that was named on the command line or in the environment.
    #[serde(skip)]
    pub file: Option<PathBuf>,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Filter for the log on standard error, e.g. `info` or `firn_service=debug`.
    pub log: Option<String>,
    /// The database.
    pub database: Database,
    /// The SSH front door.
    pub ssh: Ssh,
    /// Builds.
    pub build: Build,
    /// Virtual machines that builds run in.
    pub vm: Vm,
    /// Uploads.
    pub upload: Upload,
    /// Binary caches.
    pub caches: Caches,
    /// What holds for accounts that set nothing: the system level of settings. Checked by [`Config::defaults`].
    pub settings: BTreeMap<String, toml::Value>,
}

/// `[database]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Database {
    /// `postgres://…`; without it SQLite in the data directory.
    pub url: Option<String>,
}

/// `[ssh]`
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Ssh {
    /// Address and port.
    pub listen: String,
    /// Sessions that one account may have at once.
    pub max_sessions_per_account: usize,
    /// Connections that have logged in, of all accounts.
    pub max_connections: usize,
}

impl Default for Ssh {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:2222".into(),
            max_sessions_per_account: 256,
            max_connections: 4096,
        }
    }
}

/// `[build]`
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Build {
    /// What builds can run in, the preferred first: `namespaces`, `vm`.
    #[serde(deserialize_with = "isolations")]
    pub sandboxes: Vec<Isolation>,
    /// Builds that run at once; 0 is one for each processor.
    pub max_jobs: usize,
    /// What `NIX_BUILD_CORES` says; 0 is the number of processors. Part of every build key.
    pub cores: u32,
    /// Seconds that a build may take.
    pub timeout: u64,
    /// Seconds that a build may be silent.
    pub max_silent_time: u64,
    /// Seconds for which a shared build goes on that everybody has left; 0 ends it at once.
    pub finish_left_builds: u64,
    /// Bytes of one build's log.
    pub max_log_size: u64,
    /// Bytes of one build's log a second, in the long run; 0 for any number.
    pub max_log_rate: u64,
    /// Bytes of one build's outputs.
    pub max_output_size: u64,
    /// Bytes of memory that one build may use; 0 is seven eighths of the machine's.
    pub max_memory: u64,
    /// Bytes of memory for all builds together; 0 is seven eighths of the machine's.
    pub memory: u64,
    /// Processors for all builds together; 0 is the machine's, or as many as `max-jobs`.
    pub cpus: u32,
    /// Bytes that are kept for a build of which nothing is known; 0 is `memory` by `max-jobs`.
    pub unknown_memory: u64,
    /// Whether a build may use no more than was kept for it, and is run once more with `max-memory` when that was too little.
    pub limit_to_reservation: bool,
    /// Processes and threads of one build at a time.
    pub max_processes: u64,
    /// Bytes that one build may have on disk.
    pub max_disk: u64,
    /// Files, directories and links that one build may have on disk.
    pub max_files: u64,
    /// Bytes of disk that are kept free: below that the build that takes most is stopped; 0 follows from processors and disk.
    pub keep_free: u64,
    /// Files, likewise.
    pub keep_free_files: u64,
    /// As root: whether each build gets a file system of that size, instead of being watched.
    pub disk_images: bool,
    /// Systems to build for; empty is this machine's.
    pub systems: Vec<String>,
    /// `requiredSystemFeatures` on offer.
    pub features: BTreeSet<String>,
    /// A static shell that every sandbox has as /bin/sh; `""` for none. Part of every build key.
    pub sandbox_shell: Option<PathBuf>,
    /// First of the user ids that builds run under (as root); without it, the first ones that no other service has.
    pub first_uid: Option<u32>,
    /// What fixed-output builds can reach: the public internet, or nothing.
    pub network: BuildNetwork,
    /// Ranges of addresses that they can reach besides.
    pub network_allow: Vec<IpRange>,
    /// Values of `impureEnvVars` of fixed-output builds, such as proxies. Every account's builds can read them.
    pub impure_env: BTreeMap<String, String>,
    /// PEM file of certificates that fixed-output builds trust; `""` for none.
    pub ca_file: Option<PathBuf>,
}

impl Default for Build {
    fn default() -> Self {
        Self {
            sandboxes: vec![Isolation::Namespaces],
            max_jobs: 0,
            cores: 0,
            timeout: 24 * 3600,
            max_silent_time: 4 * 3600,
            finish_left_builds: 15 * 60,
            max_log_size: 256 << 20,
            max_log_rate: 16 << 20,
            max_output_size: 64 << 30,
            max_memory: 0,
            memory: 0,
            cpus: 0,
            unknown_memory: 0,
            limit_to_reservation: false,
            max_processes: 16_384,
            max_disk: 128 << 30,
            max_files: 20_000_000,
            keep_free: 0,
            keep_free_files: 0,
            disk_images: false,
            systems: Vec::new(),
            features: ["benchmark", "big-parallel"].map(String::from).into(),
            sandbox_shell: None,
            first_uid: None,
            network: BuildNetwork::User,
            network_allow: Vec::new(),
            impure_env: BTreeMap::new(),
            ca_file: None,
        }
    }
}

/// What fixed-output builds can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BuildNetwork {
    /// Nothing.
    None,
    /// The public internet, through a relay in user space.
    User,
}

fn isolations<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Isolation>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    if names.is_empty() {
        return Err(serde::de::Error::custom("at least one of namespaces and vm"));
    }
    let parsed = names.iter().map(|name| name.parse());
    parsed.collect::<Result<_, _>>().map_err(serde::de::Error::custom)
}

/// `[vm]`
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Vm {
    /// What executes instructions; there is never another one in its place.
    pub accelerator: VmAccelerator,
    /// Bytes of memory of each machine. Part of the build keys of builds in machines.
    pub memory: u64,
    /// Bytes of images of inputs that are kept.
    pub image_cache: u64,
    /// Seconds in which a machine must be ready.
    pub boot_timeout: u64,
    /// Path of qemu-system-x86_64; without it the one in the usual places.
    pub qemu: Option<PathBuf>,
}

/// What executes a machine's instructions.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VmAccelerator {
    /// The processor.
    Kvm,
    /// A translator: slow, and no wall between accounts. For tests.
    Tcg,
}

impl Default for Vm {
    fn default() -> Self {
        Self {
            accelerator: VmAccelerator::Kvm,
            memory: 4 << 30,
            image_cache: 32 << 30,
            boot_timeout: 120,
            qemu: None,
        }
    }
}

/// `[upload]`
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Upload {
    /// Bytes of the largest NAR.
    pub max_nar_size: u64,
    /// Bytes of memory for what all clients together ask, beyond the first 64 KiB of each request.
    pub request_memory: u64,
}

impl Default for Upload {
    fn default() -> Self {
        Self {
            max_nar_size: 64 << 30,
            request_memory: 512 << 20,
        }
    }
}

/// `[caches]`
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Caches {
    /// Whether accounts may name caches in private networks: loopback, RFC 1918, link-local and the like.
    pub allow_private_networks: bool,
    /// Directories below which `file://` caches may be.
    pub file_roots: Vec<PathBuf>,
    /// PEM file of root certificates beside the system's.
    pub extra_roots: Option<PathBuf>,
    /// Whether to use the proxies that the environment names.
    pub proxy_from_environment: bool,
    /// Seconds to wait for a connection.
    pub connect_timeout: u64,
    /// Seconds to wait for the next bytes of a NAR.
    pub stall_timeout: u64,
    /// How often a download is tried.
    pub download_attempts: u32,
    /// Seconds for which "has no such path" is remembered.
    pub narinfo_cache_negative_ttl: u64,
    /// Seconds for which a narinfo is remembered.
    pub narinfo_cache_positive_ttl: u64,
}

impl Default for Caches {
    fn default() -> Self {
        let options = firn_cache::Options::default();
        Self {
            allow_private_networks: options.allow_private_networks,
            file_roots: options.file_roots,
            extra_roots: options.extra_roots,
            proxy_from_environment: options.proxy_from_environment,
            connect_timeout: options.connect_timeout.as_secs(),
            stall_timeout: options.stall_timeout.as_secs(),
            download_attempts: options.attempts,
            narinfo_cache_negative_ttl: options.negative_ttl.as_secs(),
            narinfo_cache_positive_ttl: options.positive_ttl.as_secs(),
        }
    }
}

impl Caches {
    /// As the client of caches wants it.
    pub fn options(&self) -> firn_cache::Options {
        firn_cache::Options {
            allow_private_networks: self.allow_private_networks,
            file_roots: self.file_roots.clone(),
            extra_roots: self.extra_roots.clone(),
            proxy_from_environment: self.proxy_from_environment,
            connect_timeout: Duration::from_secs(self.connect_timeout),
            stall_timeout: Duration::from_secs(self.stall_timeout),
            attempts: self.download_attempts,
            negative_ttl: Duration::from_secs(self.narinfo_cache_negative_ttl),
            positive_ttl: Duration::from_secs(self.narinfo_cache_positive_ttl),
            ..firn_cache::Options::default()
        }
    }
}

impl Config {
    /// What holds for accounts that set nothing.
    pub fn defaults(&self) -> anyhow::Result<Effective> {
        let mut system = Layer::default();
        for (name, value) in &self.settings {
            let text = setting(value).with_context(|| {
                format!("[settings] {name}: write a text, a number, true, false, or a list of texts")
            })?;
            system
                .set(Level::System, name, &text)
                .context("[settings] in the configuration")?;
        }
        Ok(layered(Effective::default(), [&system]))
    }

    /// The socket of `firn account` and the like.
    pub fn admin_socket(&self) -> PathBuf {
        self.data_dir.join("admin.sock")
    }
}

/// Reads the file that is named, or the default one when there is one, or neither.
pub fn load(options: &Options) -> anyhow::Result<Config> {
    let mut config = match (&options.config, default_file()) {
        (Some(file), _) => read(file)?,
        (None, Some(file)) if file.exists() => read(&file)?,
        _ => Config::default(),
    };
    if let Some(file) = &options.config {
        config.file = Some(std::path::absolute(file).context("configuration file")?);
    }
    if let Some(dir) = &options.data_dir {
        config.data_dir.clone_from(dir);
    }
    if config.data_dir.as_os_str().is_empty() {
        config.data_dir = default_data_dir()?;
    }
    config.data_dir = std::path::absolute(&config.data_dir).context("data directory")?;
    Ok(config)
}

fn read(file: &Path) -> anyhow::Result<Config> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the configuration file {}", file.display()))?;
    toml::from_str(&text).with_context(|| format!("in the configuration file {}", file.display()))
}

/// The text form of a setting's value.
fn setting(value: &toml::Value) -> Option<String> {
    Some(match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Boolean(yes) => yes.to_string(),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Array(entries) => {
            let entries: Option<Vec<&str>> = entries.iter().map(toml::Value::as_str).collect();
            entries?.join(" ")
        }
        _ => return None,
    })
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn home() -> Option<PathBuf> {
    std::env::var_os("HOME")
        .filter(|h| !h.is_empty())
        .map(PathBuf::from)
}

fn default_file() -> Option<PathBuf> {
    if is_root() {
        return Some("/etc/firn/firn.toml".into());
    }
    let base = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(home()?.join(".config")))?;
    Some(base.join("firn/firn.toml"))
}

fn default_data_dir() -> anyhow::Result<PathBuf> {
    if is_root() {
        return Ok("/var/lib/firn".into());
    }
    let base = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(home()?.join(".local/share")));
    match base {
        Some(base) => Ok(base.join("firn")),
        None => bail!("no HOME is set; name a data directory with --data-dir"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults(toml: &str) -> Result<Effective, String> {
        let config: Config = toml::from_str(toml).unwrap();
        config.defaults().map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn settings_are_checked_like_all_settings() {
        let text = "[settings]\nsubstituters = []\ntimeout = 60\nprivate = true\nmax-silent-time = \"5\"";
        let defaults = defaults(text).unwrap();
        assert!(defaults.substituters.is_empty() && defaults.private);
        assert_eq!((defaults.timeout, defaults.max_silent_time), (Some(60), Some(5)));
    }

    #[test]
    fn wrong_settings_are_named() {
        for (text, part) in [
            ("timout = 1", "did you mean 'timeout'"),
            ("timeout = \"soon\"", "not a whole number"),
            ("timeout = 1.5", "write a text, a number"),
            ("substituters = [1]", "write a text, a number"),
        ] {
            let error = defaults(&format!("[settings]\n{text}")).unwrap_err();
            assert!(error.contains(part) && error.contains("[settings]"), "{error}");
        }
    }
}
