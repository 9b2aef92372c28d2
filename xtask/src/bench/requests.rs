//! Firn's own share of a build request whose result exists: a driver speaks the worker protocol on one connection, beside few and beside
//! many stored paths. A client's build hook and its fresh SSH connection cost many times more, and are not in it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use firn_nix::signature::SecretKey;
use firn_nix::{BasicDerivation, DerivationOutput, Hash, NarHash, PathInfo, StorePath};
use firn_protocol::wire::{Decoder, Encoder, WireLimits, WireReader};
use firn_protocol::worker::{self, Request, StderrMessage, Version};
use firn_protocol::{BuildMode, BuildStatus};
use firn_testkit::Server;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin, ChildStdout};

use super::usage::CpuGroup;
use crate::table;

/// What selects this table.
pub const NAME: &str = "requests";

/// Stored paths of 100 accounts, few and many.
const STORED: [u64; 2] = [10_000, 1_000_000];
/// Paths in the closure of each derivation's inputs.
const INPUTS: usize = 2_000;
/// Each refers to so many before it.
const REFERENCES: usize = 5;
/// The two sizes take turns, since a machine has better and worse minutes.
const ROUNDS: usize = 5;
/// Derivations of a round, built once by one account and then asked for by another one.
const BUILDS: usize = 30;
/// How often all of a round are asked for again.
const AGAIN: usize = 3;
/// The key that has signed what is stored; the accounts trust it.
const KEY: &str = "cache.example.org-1";
/// What the kernel clears away after builds is not the requests' cost.
const SETTLE: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(120);

/// Milliseconds of each request, and CPU milliseconds of the server for all.
#[derive(Default)]
struct Cost {
    waits: Vec<f64>,
    medians: Vec<f64>,
    cpu: f64,
}

impl Cost {
    fn add(&mut self, mut round: Self) {
        round.waits.sort_by(f64::total_cmp);
        self.medians.push(median(&round.waits));
        self.waits.extend(round.waits);
        self.waits.sort_by(f64::total_cmp);
        self.cpu += round.cpu;
    }

    fn cpu(&self) -> f64 {
        self.cpu / self.waits.len() as f64
    }
}

fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A server with so many stored paths, and what its answers cost.
struct Side {
    stored: u64,
    _server: Server,
    second: Driver,
    cpu: CpuGroup,
    shared: Cost,
    again: Cost,
}

/// Measures and prints.
pub fn bench(firn: &Path, scratch: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let rounds = (0..ROUNDS)
        .map(|round| (round * BUILDS..(round + 1) * BUILDS).map(request).collect())
        .collect::<anyhow::Result<Vec<Vec<Encoder>>>>()?;
    let mut sides = Vec::new();
    for stored in STORED {
        let dir = scratch.join(format!("requests-{stored}"));
        sides.push(runtime.block_on(Side::start(firn, &dir, stored, &rounds))?);
    }
    std::thread::sleep(SETTLE);
    for builds in &rounds {
        for side in &mut sides {
            runtime.block_on(side.round(builds))?;
        }
    }
    println!();
    let head = [
        "stored paths",
        "the requester",
        "median ms",
        "median of rounds",
        "longest ms",
        "CPU ms",
    ];
    let costs = sides.iter().flat_map(|side| {
        [
            (side.stored, "built for another account", &side.shared),
            (side.stored, "has it already", &side.again),
        ]
    });
    let rows: Vec<Vec<String>> = costs
        .map(|(stored, case, cost)| {
            let medians = cost.medians.iter().map(|median| format!("{median:.2}"));
            let longest = cost.waits.last().copied().unwrap_or(f64::NAN);
            vec![
                stored.to_string(),
                case.to_owned(),
                format!("{:.2}", median(&cost.waits)),
                medians.collect::<Vec<_>>().join(" "),
                format!("{longest:.2}"),
                format!("{:.2}", cost.cpu()),
            ]
        })
        .collect();
    print!("{}", table::text(&head, &rows));
    if let [few, many] = sides.as_slice() {
        println!(
            "\nmany / few: median {:.2} and {:.2}, CPU {:.2} and {:.2}",
            median(&many.shared.waits) / median(&few.shared.waits),
            median(&many.again.waits) / median(&few.again.waits),
            many.shared.cpu() / few.shared.cpu(),
            many.again.cpu() / few.again.cpu(),
        );
    }
    Ok(())
}

impl Side {
    /// Everything is built by one account, and everything uploaded by both.
    async fn start(firn: &Path, dir: &Path, stored: u64, rounds: &[Vec<Encoder>]) -> anyhow::Result<Self> {
        let mut server = Server::start_in(firn, dir)?;
        server.stop();
        println!("filling a database with {stored} stored paths");
        fill(&server.data_dir().join("firn.sqlite"), stored)?;
        server.launch()?;
        let cpu = CpuGroup::new(server.pid().context("no server")?);
        let key = SecretKey::from_seed(KEY, &[7; 32])?.public_key().to_string();
        let mut drivers = Vec::new();
        for account in ["first", "second"] {
            let client = server.client(account)?;
            let trust = ["trusted-keys", "add", &key, "--account", account];
            server.firn(&trust)?.success()?;
            let mut driver = Driver::start(&client.ssh_config).await?;
            for n in 0..INPUTS {
                driver.upload(n).await?;
            }
            drivers.push(driver);
        }
        let (Some(second), Some(mut first)) = (drivers.pop(), drivers.pop()) else {
            bail!("two accounts are needed");
        };
        for request in rounds.iter().flatten() {
            first.build(request).await?;
        }
        Ok(Self {
            stored,
            _server: server,
            second,
            cpu,
            shared: Cost::default(),
            again: Cost::default(),
        })
    }

    async fn round(&mut self, builds: &[Encoder]) -> anyhow::Result<()> {
        self.shared.add(self.second.cost(builds, &self.cpu, 1).await?);
        self.again.add(self.second.cost(builds, &self.cpu, AGAIN).await?);
        Ok(())
    }
}

fn fill(file: &Path, rows: u64) -> anyhow::Result<()> {
    std::fs::remove_file(file)?;
    for more in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{more}", file.display()));
    }
    let status = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--release", "--package", "firn-db"])
        .args(["--example", "measure", "--", "fill"])
        .arg(file)
        .arg(rows.to_string())
        .current_dir(crate::root())
        .status()?;
    if !status.success() {
        bail!("cannot fill {}", file.display());
    }
    Ok(())
}

/// A path of its own for every name.
fn path(name: &str) -> anyhow::Result<StorePath> {
    Ok(StorePath::make(
        "output:out",
        &Hash::sha256(name.as_bytes()),
        name,
    )?)
}

fn input(n: usize) -> anyhow::Result<StorePath> {
    path(&format!("input-{n}"))
}

/// A worker session of one account.
struct Driver {
    _ssh: Child,
    input: ChildStdin,
    output: WireReader<ChildStdout>,
    limits: WireLimits,
}

impl Driver {
    async fn start(ssh_config: &Path) -> anyhow::Result<Self> {
        let mut ssh = tokio::process::Command::new("ssh")
            .arg("-F")
            .arg(ssh_config)
            .args(["firn", "nix-daemon --stdio"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (input, output) = (ssh.stdin.take(), ssh.stdout.take());
        let mut driver = Self {
            _ssh: ssh,
            input: input.context("standard input")?,
            output: WireReader::new(output.context("standard output")?, Some(PATIENCE)),
            limits: WireLimits::default(),
        };
        driver
            .send(|e| {
                e.u64(worker::CLIENT_MAGIC).u64(Version::NEWEST.to_wire());
                // No features, no processor affinity, no reserved space.
                e.u64(0).u64(0).u64(0);
            })
            .await?;
        let mut d = driver.decoder();
        d.u64("magic").await?;
        if d.u64("version").await? != Version::NEWEST.to_wire() {
            bail!("the server speaks another version");
        }
        d.texts("features").await?;
        d.text("daemon version").await?;
        d.u64("trust").await?;
        driver.answer().await?;
        Ok(driver)
    }

    async fn send(&mut self, encode: impl FnOnce(&mut Encoder)) -> anyhow::Result<()> {
        let mut e = Encoder::default();
        encode(&mut e);
        self.input.write_all(e.as_bytes()).await?;
        Ok(self.input.flush().await?)
    }

    fn decoder(&mut self) -> Decoder<'_, WireReader<ChildStdout>> {
        Decoder::new(&mut self.output, &self.limits)
    }

    /// Reads up to the reply.
    async fn answer(&mut self) -> anyhow::Result<()> {
        loop {
            match StderrMessage::decode(&mut self.decoder(), Version::NEWEST).await? {
                StderrMessage::Last => return Ok(()),
                StderrMessage::Error(text) => bail!("{}", text.escape_ascii()),
                _ => {}
            }
        }
    }

    async fn upload(&mut self, n: usize) -> anyhow::Result<()> {
        let mut nar = Encoder::default();
        for token in [
            "nix-archive-1",
            "(",
            "type",
            "regular",
            "contents",
            &n.to_string(),
            ")",
        ] {
            nar.bytes(token.as_bytes());
        }
        let nar = nar.as_bytes().to_vec();
        let references = (n.saturating_sub(REFERENCES)..n)
            .map(input)
            .collect::<Result<_, _>>()?;
        let request = Request::AddToStoreNar(PathInfo {
            path: input(n)?,
            deriver: None,
            nar_hash: NarHash::new(Hash::sha256(&nar).bytes().try_into()?),
            references,
            registration_time: 0,
            nar_size: nar.len() as u64,
            ultimate: false,
            signatures: Default::default(),
            ca: None,
        });
        self.send(|e| {
            request.encode(Version::NEWEST, e);
            // One frame, and the end.
            e.len(nar.len()).raw(&nar).u64(0);
        })
        .await?;
        self.answer().await
    }

    /// Sends a request and waits for its result.
    async fn build(&mut self, request: &Encoder) -> anyhow::Result<()> {
        self.input.write_all(request.as_bytes()).await?;
        self.input.flush().await?;
        self.answer().await?;
        let result = self
            .decoder()
            .build_result(Version::NEWEST.result_format())
            .await?;
        if !matches!(result.status, BuildStatus::Built | BuildStatus::AlreadyValid) {
            bail!("{result:?}");
        }
        Ok(())
    }

    /// Asks for all builds so many times.
    async fn cost(&mut self, builds: &[Encoder], cpu: &CpuGroup, times: usize) -> anyhow::Result<Cost> {
        let before = cpu.seconds();
        let mut waits = Vec::new();
        for _ in 0..times {
            for request in builds {
                let begun = Instant::now();
                self.build(request).await?;
                waits.push(begun.elapsed().as_secs_f64() * 1e3);
            }
        }
        Ok(Cost {
            waits,
            medians: Vec::new(),
            cpu: (cpu.seconds() - before) * 1e3,
        })
    }
}

/// A request for a build whose inputs are all that was uploaded.
fn request(n: usize) -> anyhow::Result<Encoder> {
    let name = format!("build-{n}");
    let out = path(&name)?;
    let env = [("out", out.to_string()), ("name", name.clone())];
    let drv = BasicDerivation {
        outputs: [("out".to_owned(), DerivationOutput::InputAddressed(out))].into(),
        input_srcs: (0..INPUTS).map(input).collect::<Result<_, _>>()?,
        platform: format!("{}-linux", std::env::consts::ARCH).into_bytes(),
        builder: b"/bin/sh".to_vec(),
        args: vec![b"-ec".to_vec(), format!("echo {n} > $out").into_bytes()],
        env: env.map(|(name, value)| (name.into(), value.into())).into(),
    };
    let request = Request::BuildDerivation(path(&format!("{name}.drv"))?, drv, BuildMode::Normal);
    let mut e = Encoder::default();
    request.encode(Version::NEWEST, &mut e);
    Ok(e)
}
