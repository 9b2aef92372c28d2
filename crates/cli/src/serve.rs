//! `firn serve`: puts the house together and opens its doors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use firn_builder::{FixedOutputs, LocalBuilder, Mark, Marks};
use firn_cache::CacheClient;
use firn_content::{ContentStore, FlatOptions};
use firn_core::{Effective, Isolation};
use firn_db::{AnyDatabase, Occupant};
use firn_nix::NarHash;
use firn_service::ports::{JobLimits, Scarce};
use firn_service::{Clock as _, Room, Settings, SystemClock};
use firn_ssh::HostKey;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::config::{self, BuildNetwork, Config};
use crate::door::Door;
use crate::live::House;
use crate::options::ServeArgs;
use crate::vital::Vital;
use crate::{admin, banner, data_dir, log, machines, output};

/// Name and version of what the sandbox shows to a build; part of every build key. An ordinary user's builds own their inputs, as they
/// see it, root's do not.
fn sandbox() -> &'static str {
    if rustix::process::geteuid().is_root() {
        "linux-namespaces-3"
    } else {
        "linux-namespaces-user-3"
    }
}

/// How long cancelled runs may take to end when the service stops.
const END_OF_RUNS: Duration = Duration::from_secs(15);

/// Users beyond the builds that run at once: a build that was cancelled keeps its own until it is cleared away.
const SPARE_UIDS: u32 = 16;

/// How long a build that has its turn waits for the machine to have enough of everything.
const PATIENCE: Duration = Duration::from_secs(600);

/// Connections to PostgreSQL.
const DATABASE_CONNECTIONS: u32 = 16;

/// Where certificates to trust may stand, in order.
const CA_FILES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/certs/ca-bundle.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
];

/// Where a static shell may stand, in order.
const SHELLS: [&str; 4] = [
    "/bin/busybox",
    "/usr/bin/busybox",
    "/bin/bash-static",
    "/usr/bin/bash-static",
];

/// What of the log is written.
pub fn log_filter(config: &Config) -> anyhow::Result<EnvFilter> {
    let filter = config.log.as_deref().unwrap_or("info");
    EnvFilter::try_new(filter).with_context(|| format!("log filter '{filter}'"))
}

/// Runs the service until it is told to stop.
pub async fn serve(config: Config, args: &ServeArgs) -> anyhow::Result<()> {
    log::start(log_filter(&config)?);
    let ended = start(config, args).await;
    log::flush();
    ended
}

async fn start(config: Config, args: &ServeArgs) -> anyhow::Result<()> {
    let defaults = config.defaults()?;
    let dir = &config.data_dir;
    data_dir::open(dir)?;
    // The lock is held as long as the process lives; a second server on this directory stops here.
    let me = occupant(&config, args);
    let _lock = data_dir::lock(dir, &me)?;
    let db = match &config.database.url {
        Some(url) => {
            let mut token = [0; 16];
            getrandom::fill(&mut token).context("cannot get random bytes")?;
            AnyDatabase::occupy(url, DATABASE_CONNECTIONS, me, token).await
        }
        None => AnyDatabase::open(&dir.join("firn.sqlite")).await,
    };
    run(&config, args, defaults, db.context("cannot use the database")?).await
}

/// What another server is told of this one.
fn occupant(config: &Config, args: &ServeArgs) -> Occupant {
    let dir = &config.data_dir;
    Occupant {
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        address: args.listen.clone().unwrap_or_else(|| config.ssh.listen.clone()),
        data_dir: std::path::absolute(dir)
            .as_ref()
            .unwrap_or(dir)
            .display()
            .to_string(),
        since: SystemClock.now().as_secs(),
    }
}

async fn run(config: &Config, args: &ServeArgs, defaults: Effective, db: AnyDatabase) -> anyhow::Result<()> {
    let dir = &config.data_dir;
    let content = ContentStore::open(&dir.join("contents"))?;
    let shell = sandbox_shell(config)?;
    let mut extra = BTreeMap::new();
    let mut shell_tree = None;
    let mut shell_hash = None;
    if let Some(shell) = &shell {
        let hash = keep_shell(&content, shell)
            .await
            .with_context(|| format!("sandbox shell {}", shell.display()))?;
        extra.insert("/bin/sh".to_owned(), hash);
        shell_tree = Some(content.tree(&hash));
        shell_hash = Some(hash);
    }
    let mut settings = settings(config, extra, defaults);
    let mut builder = builder_config(config, &content, shell_tree, settings.max_jobs)?;
    for isolation in &config.build.sandboxes {
        let class = match isolation {
            Isolation::Namespaces => Ok(sandbox().to_owned()),
            Isolation::Vm => match machines::open(config, shell_hash) {
                Ok((machines, class)) => {
                    builder.machines = Some(machines);
                    Ok(class)
                }
                Err(error) => {
                    let why = format!("{error:#}");
                    tracing::error!(
                        why,
                        "no virtual machines: builds that must run in one are refused"
                    );
                    Err(why)
                }
            },
        };
        settings.sandboxes.push((*isolation, class));
    }
    let builder = LocalBuilder::new(builder).context("[build] in the configuration")?;
    let peculiar = builder.peculiarities().join(",");
    for (isolation, class) in &mut settings.sandboxes {
        if let (Isolation::Namespaces, Ok(class), false) = (*isolation, class, peculiar.is_empty()) {
            tracing::info!(
                peculiar,
                "part of every build key, because builds see it and the service may not change it"
            );
            *class = format!("{class}/{peculiar}");
        }
    }
    if let Some(uids) = builder.uids() {
        tracing::info!(first = uids.start, last = uids.end - 1, "user ids of builds");
    }
    let swept = builder
        .sweep()
        .context("cannot end the builds of an earlier process")?;
    if swept > 0 {
        tracing::warn!(swept, "builds of an earlier process were ended and removed");
    }
    let unlimited = builder.unlimited();
    if !unlimited.is_empty() {
        tracing::warn!(
            "no control groups here for: {}; one build can take all of it from the others (see docs/operating.md, \"Limits\")",
            unlimited.join(", ")
        );
    }
    if let Some(processes) = builder
        .processes()
        .filter(|few| *few < config.build.max_processes)
    {
        tracing::warn!(
            processes,
            "the machine has not processes enough for max-processes of every build at once: each may have so many (more by: sysctl kernel.pid_max=4194304)"
        );
    }
    if firn_builder::is_memory_strict() && config.build.max_jobs != 1 {
        tracing::warn!(
            "vm.overcommit_memory is 2: what builds that run beside others give counts for nothing, because one can reserve all memory unseen; set it to 0, or max-jobs to 1"
        );
    }
    let caches = CacheClient::new(config.caches.options()).context("[caches] in the configuration")?;
    let offer = banner::Offer {
        systems: settings.systems.clone(),
        features: settings.features.clone(),
    };
    let house = House::new(db, builder, caches, content, settings, Arc::new(SystemClock));
    let swept = house
        .sweep()
        .await
        .map_err(anyhow::Error::msg)
        .context("cannot sweep the content store")?;
    tracing::info!(kept = swept.kept, removed = swept.removed, "contents");
    let settled = house
        .settle_gives()
        .await
        .map_err(anyhow::Error::msg)
        .context("cannot apply [settings] to the accounts")?;
    if settled > 0 {
        tracing::info!(accounts = settled, "[settings] changed what these give to others");
    }

    let listen = args.listen.clone().unwrap_or_else(|| config.ssh.listen.clone());
    let listener = TcpListener::bind(&listen)
        .await
        .with_context(|| format!("cannot listen on {listen}"))?;
    let address = listener.local_addr()?;
    let host_key = HostKey::load_or_create(&dir.join("ssh_host_ed25519_key"))?;
    let admin_socket = admin::bind(&config.admin_socket())?;
    // Whoever started it may not care to read it.
    let _ = output::print(&banner::text(config, &offer, address, &host_key));

    let shutdown = CancellationToken::new();
    let door = Arc::new(Door::new(Arc::clone(&house), dir));
    let ssh = front_door(config);
    let mut vital = Vital::new();
    vital.watch({
        let db = house.database().clone();
        async move { db.lost().await }
    });
    vital.watch({
        let house = Arc::clone(&house);
        async move { house.lost().await }
    });
    #[cfg(debug_assertions)]
    if std::env::var_os("FIRN_TEST_LOSE").is_some_and(|part| part == "database-writer") {
        house.database().lose_writer().await;
    }
    let stopped = shutdown.clone();
    let admin = vital.spawn("the administration's socket", move || stopped.is_cancelled(), {
        let (house, door, shutdown) = (Arc::clone(&house), Arc::clone(&door), shutdown.clone());
        admin::listen(admin_socket, house, door, shutdown)
    });
    tokio::spawn({
        let shutdown = shutdown.clone();
        async move {
            stop_signal().await;
            tracing::info!("stopping; sessions that run may end");
            shutdown.cancel();
        }
    });
    let served = tokio::select! {
        served = firn_ssh::serve(listener, host_key, ssh, door, shutdown.clone()) => served,
        why = vital.lost() => bail!("{why}; the service ends, to be started again"),
    };
    shutdown.cancel();
    admin.await?;
    // Without their sessions the runs are cancelled; their processes and files go before this process does.
    let deadline = tokio::time::Instant::now() + END_OF_RUNS;
    while house.running_builds() > 0 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let _ = std::fs::remove_file(config.admin_socket());
    served.context("the SSH front door")
}

/// The limits of the front door. Connections leave at least as many open files to everything else.
fn front_door(config: &Config) -> firn_ssh::Config {
    let defaults = firn_ssh::Config::default();
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let part = |of: u64| {
        files.map_or(usize::MAX, |files| {
            usize::try_from(files / of).unwrap_or(usize::MAX)
        })
    };
    firn_ssh::Config {
        max_sessions_per_account: config.ssh.max_sessions_per_account,
        max_connections: config.ssh.max_connections.min(part(2)).max(1),
        max_unauthenticated: defaults.max_unauthenticated.min(part(8)).max(1),
        ..defaults
    }
}

async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

fn settings(config: &Config, extra: BTreeMap<String, NarHash>, defaults: Effective) -> Settings {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let build = &config.build;
    let max_jobs = match build.max_jobs {
        0 => processors,
        jobs => jobs,
    };
    Settings {
        systems: if build.systems.is_empty() {
            native_systems()
        } else {
            build.systems.clone()
        },
        features: build.features.clone(),
        cores: if build.cores == 0 {
            u32::try_from(processors).unwrap_or(1)
        } else {
            build.cores
        },
        max_jobs,
        room: room(config, max_jobs, processors),
        limits: JobLimits {
            wall: Duration::from_secs(build.timeout),
            silent: Duration::from_secs(build.max_silent_time),
            log_bytes: build.max_log_size,
            log_rate: Some(build.max_log_rate).filter(|&rate| rate > 0),
            output_bytes: build.max_output_size,
            memory_bytes: match build.max_memory {
                0 => usable_memory(),
                bytes => Some(bytes),
            },
            processes: Some(build.max_processes),
            disk_bytes: build.max_disk,
            disk_entries: build.max_files,
        },
        finish_left_builds: Duration::from_secs(build.finish_left_builds),
        max_nar_size: config.upload.max_nar_size,
        request_memory: config.upload.request_memory,
        sandboxes: Vec::new(),
        builtins: firn_builtin::BUILTINS
            .map(|(name, version)| (name.to_owned(), version.to_owned()))
            .into(),
        extra,
        defaults,
        log_dir: config.data_dir.join("logs"),
    }
}

fn room(config: &Config, max_jobs: usize, processors: usize) -> Room {
    let build = &config.build;
    let memory = match build.memory {
        0 => usable_memory(),
        bytes => Some(bytes),
    };
    let cpus = match build.cpus {
        0 => u32::try_from(processors.max(max_jobs)).ok(),
        cpus => Some(cpus),
    };
    Room {
        memory,
        cpus,
        unknown_memory: match build.unknown_memory {
            // The queue rounds up by less than an eighth, and as many as there are slots must fit.
            0 => memory.unwrap_or(0) / (max_jobs as u64).max(1) / 9 * 8,
            bytes => bytes,
        },
        machine_memory: machines::memory(config),
        limit_to_reservation: build.limit_to_reservation,
    }
}

/// Bytes of memory of this machine that builds may use; the rest is for the service and the system.
fn usable_memory() -> Option<u64> {
    machine_memory().map(|bytes| bytes / 8 * 7)
}

/// Bytes of memory that this machine has.
fn machine_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

fn native_systems() -> Vec<String> {
    match std::env::consts::ARCH {
        "x86_64" => vec!["x86_64-linux".into(), "i686-linux".into()],
        arch => vec![format!("{arch}-linux")],
    }
}

fn builder_config(
    config: &Config,
    content: &ContentStore,
    shell: Option<PathBuf>,
    slots: usize,
) -> anyhow::Result<firn_builder::Config> {
    Ok(firn_builder::Config {
        scratch_dir: config.data_dir.join("builds"),
        content: content.clone(),
        helper: firn_sandbox::HelperCommand::new(
            std::env::current_exe().context("cannot find this program's file")?,
        )
        .arg("sandbox-exec"),
        shell,
        first_uid: config.build.first_uid,
        uids: u32::try_from(slots).unwrap_or(1).saturating_add(SPARE_UIDS),
        disk_images: config.build.disk_images,
        machines: None,
        fixed: fixed_outputs(&config.build),
        at_once: u32::try_from(slots).unwrap_or(u32::MAX),
        marks: marks(config),
        patience: PATIENCE,
    })
}

/// What this machine keeps free.
fn marks(config: &Config) -> Marks {
    let marks = Marks::of(&config.data_dir);
    let keep = |marks: Marks, kind, reserve: u64| match marks.get(kind) {
        Some(mark) if reserve > 0 => marks.with(kind, Mark { reserve, ..mark }),
        _ => marks,
    };
    let marks = keep(marks, Scarce::DiskSpace, config.build.keep_free);
    keep(marks, Scarce::DiskEntries, config.build.keep_free_files)
}

/// What fixed-output builds have besides. Said at the start when it is not what the configuration wants.
fn fixed_outputs(build: &config::Build) -> FixedOutputs {
    let network = match build.network {
        BuildNetwork::None => Err("the operator has switched it off (build.network)".to_owned()),
        BuildNetwork::User => match firn_sandbox::probe::can_relay() {
            Ok(()) => Ok(build.network_allow.clone()),
            Err(why) => {
                tracing::warn!(
                    why,
                    "fixed-output builds have no network here; `firn doctor` says more"
                );
                Err(format!(
                    "this machine does not let the service give it one ({why})"
                ))
            }
        },
    };
    FixedOutputs {
        network,
        variables: build.impure_env.clone(),
        ca_file: match &build.ca_file {
            Some(none) if none.as_os_str().is_empty() => None,
            Some(file) => Some(file.clone()),
            None => CA_FILES.iter().map(PathBuf::from).find(|file| file.is_file()),
        },
    }
}

/// The static shell for `/bin/sh`: the configured one, or the first of the usual places, or none.
pub fn sandbox_shell(config: &Config) -> anyhow::Result<Option<PathBuf>> {
    match &config.build.sandbox_shell {
        Some(none) if none.as_os_str().is_empty() => Ok(None),
        Some(shell) if shell.is_file() => Ok(Some(shell.clone())),
        Some(shell) => bail!("the sandbox shell {} is not a file", shell.display()),
        None => Ok(SHELLS.iter().map(PathBuf::from).find(|shell| shell.is_file())),
    }
}

/// Takes the shell into the content store, so that a build key names its bytes and an upgrade of the host changes no running build.
async fn keep_shell(content: &ContentStore, shell: &Path) -> anyhow::Result<NarHash> {
    let mut file = tokio::fs::File::open(shell).await?;
    let options = FlatOptions {
        executable: true,
        max_size: 256 << 20,
        algorithms: Vec::new(),
    };
    let (staged, _) = content.ingest_flat(&mut file, options, None).await?;
    let hash = staged.hash();
    content.publish([staged]).await?;
    content.sync([hash]).await?;
    Ok(hash)
}
