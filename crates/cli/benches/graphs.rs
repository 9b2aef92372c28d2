//! What Firn itself adds to each step of a large graph: 100,000 derivations, real database and content store, a builder that does nothing.
//!
//! Each shape has a process of its own, whose largest memory is told. `cargo xtask bench --only graphs` runs this.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench that cannot run says so by panicking"
)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use firn_content::{ContentStore, IngestOptions};
use firn_core::{AccountId, AccountName, CacheUrl, Effective, Isolation, Object};
use firn_db::SqliteDatabase;
use firn_nix::derivation::Modulo;
use firn_nix::nar::{NarVisitor as _, NarWriter};
use firn_nix::narinfo::NarInfo;
use firn_nix::{CaMethod, ContentAddress, Derivation, DerivationOutput, Hash, NarHash, PathInfo, StorePath};
use firn_protocol::{BuildMode, BuildOptions, ByteStream, DerivedPath, OutputsSpec, Store as _, Upload as _};
use firn_service::ports::{
    AccountCaches, Builder, CacheError, CacheInfo, Caches, Job, JobLimits, Login, Outcome, Ports, RunReport,
    Trouble,
};
use firn_service::{AccountStore, House, Room, Settings, SystemClock};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// As in `firn`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Name, and what the `n`th derivation is built from.
type Shape = (&'static str, fn(usize) -> Vec<usize>);

const SHAPES: [Shape; 3] = [("wide", |_| Vec::new()), ("deep", chain), ("diamond", layers)];

/// Derivations in a layer of the diamond.
const LAYER: usize = 100;
/// `.drv` files that are sent together.
const BATCH: usize = 5_000;

fn chain(n: usize) -> Vec<usize> {
    n.checked_sub(1).into_iter().collect()
}

/// Each is built from three of the layer below.
fn layers(n: usize) -> Vec<usize> {
    let Some(below) = (n / LAYER).checked_sub(1) else {
        return Vec::new();
    };
    [0, 1, 7]
        .map(|k| below * LAYER + (n + k) % LAYER)
        .into_iter()
        .collect()
}

fn main() {
    let count = std::env::var("FIRN_BENCH_DERIVATIONS")
        .ok()
        .and_then(|n| n.parse().ok());
    let count: usize = count.unwrap_or(100_000);
    if let Ok(name) = std::env::var("FIRN_BENCH_SHAPE") {
        let shape = SHAPES.into_iter().find(|(known, _)| *known == name).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(measure(shape, count));
        return;
    }
    println!(
        "{count} derivations; memory is the process's largest in each part, that of making and keeping the graph included.\n"
    );
    println!("          send         plan         build                    again        other account");
    println!("shape        s     MB     s     MB      s     MB  ms a step     s     MB     s     MB");
    for (name, _) in SHAPES {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let ended = command.env("FIRN_BENCH_SHAPE", name).status().unwrap();
        assert!(ended.success(), "{name}");
    }
}

async fn measure((name, inputs): Shape, count: usize) {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path()).await;
    let [alice, bob] = [world.account("alice").await, world.account("bob").await];
    let mut part = Part::begin();
    let top = world.send(&[&alice, &bob], count, inputs).await;
    let sent = part.end();
    let target = || {
        vec![DerivedPath::Built {
            drv_path: top.clone(),
            outputs: OutputsSpec::All,
        }]
    };
    let missing = alice.query_missing(target()).await.unwrap();
    assert_eq!(missing.will_build.len(), count + 1);
    drop(missing);
    let planned = part.end();
    let mut build = async |account: &AccountStore<BenchPorts>| {
        let (log, mut events) = mpsc::channel(64);
        let request = account.build_paths(target(), BuildMode::Normal, BuildOptions::default(), log);
        let drain = async { while events.recv().await.is_some() {} };
        let (results, ()) = tokio::join!(request, drain);
        let result = &results.unwrap()[0];
        assert!(result.status.is_success(), "{result:?}");
        part.end()
    };
    let built = build(&alice).await;
    let again = build(&alice).await;
    let other = build(&bob).await;
    let step = built.0 * 1e3 / (count + 1) as f64;
    let [sent, planned, built, again, other] =
        [sent, planned, built, again, other].map(|(seconds, memory)| format!("{seconds:>6.2} {memory:>6}"));
    println!("{name:<8} {sent} {planned} {built} {step:>10.3} {again} {other}");
}

/// A part of the work.
struct Part(Instant);

impl Part {
    fn begin() -> Self {
        // The largest memory from now on.
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        Self(Instant::now())
    }

    /// Seconds, and the largest memory in MB. The next part begins.
    fn end(&mut self) -> (f64, u64) {
        let seconds = self.0.elapsed().as_secs_f64();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let mut lines = status.lines();
        let largest = lines.find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let largest: u64 = largest.trim().trim_end_matches(" kB").parse().unwrap();
        *self = Self::begin();
        (seconds, largest >> 10)
    }
}

struct World {
    house: Arc<House<BenchPorts>>,
}

impl World {
    async fn new(dir: &std::path::Path) -> Self {
        let content = ContentStore::open(&dir.join("contents")).unwrap();
        let db = SqliteDatabase::open(&dir.join("firn.sqlite")).await.unwrap();
        let settings = Settings {
            systems: vec!["x86_64-linux".into()],
            features: BTreeSet::new(),
            cores: 1,
            max_jobs: 8,
            room: Room::default(),
            limits: JobLimits::default(),
            finish_left_builds: Duration::ZERO,
            max_nar_size: 1 << 30,
            request_memory: 512 << 20,
            sandboxes: vec![(Isolation::Namespaces, Ok("none".into()))],
            extra: BTreeMap::new(),
            builtins: BTreeMap::new(),
            defaults: Effective {
                substituters: Vec::new(),
                trusted_public_keys: Vec::new(),
                ..Effective::default()
            },
            log_dir: dir.join("logs"),
        };
        let nar = nar(b"what every build gives");
        let options = IngestOptions {
            expected_size: None,
            expected_hash: None,
            max_size: 1 << 20,
        };
        let staged = content.ingest(&mut &nar[..], options, None).await.unwrap();
        let builder = NoBuilder {
            content: staged.hash(),
            nar_size: staged.size(),
        };
        content.publish([staged]).await.unwrap();
        Self {
            house: House::new(db, builder, NoCaches, content, settings, Arc::new(SystemClock)),
        }
    }

    async fn account(&self, name: &str) -> AccountStore<BenchPorts> {
        let name = AccountName::parse(name).unwrap();
        self.house.store(self.house.create_account(&name).await.unwrap())
    }

    /// Makes the graph and sends it for these accounts; the path of the derivation that needs all others.
    async fn send(
        &self,
        accounts: &[&AccountStore<BenchPorts>],
        count: usize,
        inputs: fn(usize) -> Vec<usize>,
    ) -> StorePath {
        let mut modulo = Modulo::new();
        let mut paths: Vec<StorePath> = Vec::with_capacity(count);
        let mut batch = Vec::new();
        let mut needed = vec![false; count];
        for number in 0..=count {
            let below = if number < count {
                inputs(number)
            } else {
                (0..count).filter(|n| !needed[*n]).collect()
            };
            below.iter().for_each(|n| needed[*n] = true);
            let name = format!("package-{number}-1.0");
            let drv = derivation(&mut modulo, &name, below.iter().map(|n| paths[*n].clone()));
            let (info, nar) = file(&name, &drv);
            let hash = modulo.own_hash(&drv, &name).unwrap();
            modulo.insert(info.path.clone(), hash);
            paths.push(info.path.clone());
            batch.push((info, nar));
            if batch.len() == BATCH || number == count {
                for account in accounts {
                    let mut upload = account.begin_upload().await.unwrap();
                    for (info, nar) in &batch {
                        upload.add(info.clone(), &mut &nar[..]).await.unwrap();
                    }
                    upload.commit().await.unwrap();
                }
                batch.clear();
            }
        }
        paths.pop().unwrap()
    }
}

/// A derivation like those of real packages: some variables and a kilobyte of script.
fn derivation(modulo: &mut Modulo, name: &str, inputs: impl Iterator<Item = StorePath>) -> Derivation {
    let mut drv = Derivation::default();
    drv.basic.outputs = BTreeMap::from([("out".to_owned(), DerivationOutput::Deferred)]);
    drv.basic.platform = b"x86_64-linux".to_vec();
    drv.basic.builder = b"/bin/sh".to_vec();
    drv.basic.args = vec![b"-e".to_vec(), b"builder.sh".to_vec()];
    let text = |text: &str| text.as_bytes().to_vec();
    drv.basic.env = BTreeMap::from([
        (text("out"), Vec::new()),
        (text("name"), text(name)),
        (text("buildPhase"), text(&"make -j$NIX_BUILD_CORES\n".repeat(40))),
    ]);
    let out: BTreeSet<String> = BTreeSet::from(["out".to_owned()]);
    drv.input_drvs = inputs.map(|path| (path, out.clone())).collect();
    let path = modulo
        .output_paths(&drv, name, |_| None)
        .unwrap()
        .remove("out")
        .flatten()
        .unwrap();
    drv.basic.env.insert(text("out"), text(&path.to_string()));
    drv.basic
        .outputs
        .insert("out".to_owned(), DerivationOutput::InputAddressed(path));
    drv
}

fn file(name: &str, drv: &Derivation) -> (PathInfo, Vec<u8>) {
    let text = drv.to_aterm();
    let ca = ContentAddress {
        method: CaMethod::Text,
        hash: Hash::sha256(&text),
    };
    let references: BTreeSet<StorePath> = drv.input_drvs.keys().cloned().collect();
    let path = StorePath::make_content_addressed(&format!("{name}.drv"), &ca, &references, false).unwrap();
    let nar = nar(&text);
    let info = PathInfo {
        path,
        deriver: None,
        nar_hash: NarHash::new(Hash::sha256(&nar).bytes().try_into().unwrap()),
        references,
        registration_time: 0,
        nar_size: nar.len() as u64,
        ultimate: false,
        signatures: BTreeSet::new(),
        ca: Some(ca),
    };
    (info, nar)
}

fn nar(bytes: &[u8]) -> Vec<u8> {
    let mut nar = NarWriter::new(Vec::new());
    nar.regular(false, bytes.len() as u64).unwrap();
    nar.data(bytes).unwrap();
    nar.end_regular().unwrap();
    nar.into_inner()
}

struct BenchPorts;

impl Ports for BenchPorts {
    type Database = SqliteDatabase;
    type Builder = NoBuilder;
    type Caches = NoCaches;
}

/// Gives the same bytes for every output at once.
struct NoBuilder {
    content: NarHash,
    nar_size: u64,
}

impl Builder for NoBuilder {
    async fn run(&self, job: Job, log: mpsc::Sender<Bytes>, _cancel: CancellationToken) -> Outcome {
        drop(log);
        let object = |path: &StorePath| Object {
            path: path.clone(),
            content: self.content,
            nar_size: self.nar_size,
            references: BTreeSet::new(),
            ca: None,
            self_references: None,
        };
        let outputs = job.drv.outputs.iter();
        let outputs: HashMap<String, Object> = outputs
            .filter_map(|(name, output)| Some((name.clone(), object(output.path()?))))
            .collect();
        Outcome {
            result: Ok(outputs.into_iter().collect()),
            report: RunReport {
                wall_ms: Duration::from_millis(1).as_millis() as u64,
                ..RunReport::default()
            },
        }
    }
}

/// Nobody asks.
struct NoCaches;

fn none<T>() -> Result<T, CacheError> {
    Err(CacheError {
        cache: String::new(),
        trouble: Trouble::Unreachable("there are no caches".to_owned()),
    })
}

impl Caches for NoCaches {
    type Account = Self;

    fn of(&self, _: AccountId, _: Option<Duration>) -> Self {
        Self
    }
}

impl AccountCaches for NoCaches {
    async fn not_believed(&self, _: &CacheUrl, _: Option<&Login>, _: &StorePath) {}

    fn refresh(&self) {}

    async fn about(&self, _: &CacheUrl, _: Option<&Login>) -> Result<CacheInfo, CacheError> {
        none()
    }

    async fn narinfo(
        &self,
        _: &CacheUrl,
        _: Option<&Login>,
        _: &StorePath,
    ) -> Result<Option<NarInfo>, CacheError> {
        none()
    }

    async fn nar(&self, _: &CacheUrl, _: Option<&Login>, _: &NarInfo) -> Result<ByteStream, CacheError> {
        none()
    }
}
