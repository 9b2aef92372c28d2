//! Times what is asked of the past: `cargo run -p firn-db --example measure-runs -- <directory> [<rows>]`; the directory must be empty or new.
//!
//! Prints what recording `<rows>` (1,000,000) requests of 100 accounts takes, and then what sums over them take, and questions about runs.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use firn_core::{AccountName, BuildId, BuildKey, Object, ObjectId, Rung};
use firn_db::SqliteDatabase;
use firn_nix::{Hash, NarHash, StorePath};
use firn_service::ports::{
    Accounts as _, BuildRecord, Builds as _, DerivationDigest, Gives, OutputRecord, RequestRecord, RunRecord,
};
use tokio::task::JoinSet;

type Failure = Box<dyn Error + Send + Sync>;

const ACCOUNTS: u64 = 100;
const TIMES: u32 = 15;

fn digest(text: &str) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(Hash::sha256(text.as_bytes()).bytes());
    digest
}

fn path(n: u64) -> Result<StorePath, Failure> {
    let hash = firn_nix::base32::encode(digest(&n.to_string()).get(..20).unwrap_or_default());
    Ok(StorePath::from_base_name(
        format!("{hash}-some-package-name-{n}").as_bytes(),
    )?)
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
    println!("{what:<58} median {:>9.3?}  90% {:>9.3?}", at(50), at(90));
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args_os().skip(1);
    let directory = PathBuf::from(
        arguments
            .next()
            .ok_or("usage: measure-runs <directory> [<rows>]")?,
    );
    let rows: u64 = match arguments.next().and_then(|a| a.into_string().ok()) {
        Some(rows) => rows.parse()?,
        None => 1_000_000,
    };
    std::fs::create_dir_all(&directory)?;
    println!("{rows} requests of {ACCOUNTS} accounts");
    measure(&directory.join("runs.sqlite"), rows).await
}

/// Requests that one run answers.
const EACH: u64 = 5;

/// `<rows>` requests of all accounts, half of them of one, answered by a fifth as many runs of 2,000 inputs each.
async fn measure(file: &std::path::Path, rows: u64) -> Result<(), Failure> {
    let db = SqliteDatabase::open(file).await?;
    let mut accounts = Vec::new();
    for n in 0..ACCOUNTS {
        let name = AccountName::parse(&format!("a{n}"))?;
        accounts.push(db.create_account(&name, "secret", Gives::ALL, 1).await?.id);
    }
    let account = |n: u64| accounts.get((n % ACCOUNTS) as usize).copied().ok_or("no account");
    let start = Instant::now();
    let mut waiting = JoinSet::new();
    for n in 0..rows / EACH {
        let record = build(n)?;
        let (db, account) = (db.clone(), account(n)?);
        waiting.spawn(async move { db.record_build(&record, account, true, true).await });
        if waiting.len() >= 64
            && let Some(done) = waiting.join_next().await
        {
            done??;
        }
    }
    while let Some(done) = waiting.join_next().await {
        done??;
    }
    let rate = (rows / EACH) as f64 / start.elapsed().as_secs_f64();
    println!(
        "{:<58} {rate:.0} a second",
        "record a run of 2,000 inputs, 64 callers at once"
    );
    let start = Instant::now();
    for n in 0..rows {
        let run = n * 7_919 % (rows / EACH);
        db.record_request(&RequestRecord {
            // Half of the requests are of one account.
            account: account(if n % 2 == 0 { 0 } else { n })?,
            drv_path: path(run)?,
            rung: Some(if n % EACH == 0 { Rung::Built } else { Rung::Shared }),
            reason: "the same build key had succeeded before".into(),
            build: Some(build_id(run)),
            time: n,
            wall_ms: n,
        })
        .await?;
    }
    db.requests(account(0)?, 1).await?;
    println!(
        "{:<58} {:.0} a second",
        "record a request, until all are seen",
        rows as f64 / start.elapsed().as_secs_f64()
    );
    for (what, who) in [
        ("all accounts", None),
        ("an account with half of the requests", Some(account(0)?)),
        ("an account with a few", Some(account(1)?)),
    ] {
        for (since, until) in [(0, u64::MAX), (rows / 2, rows / 2 + rows / 100)] {
            let start = Instant::now();
            let usage = db.usage(who, since, until).await?;
            let requests: u64 = usage.rungs.values().map(|sums| sums.requests).sum();
            println!(
                "usage of {what:<49} {:.3?} ({requests} requests)",
                start.elapsed()
            );
        }
    }
    let mut times = Vec::new();
    for n in 0..200 {
        let start = Instant::now();
        let request = db
            .latest_request(account(0)?, &path(n * 2 * 7_919 % (rows / EACH))?)
            .await?;
        let run = db
            .run_of_request(request.and_then(|r| r.build).ok_or("no request")?, account(0)?)
            .await?;
        let drv = run.ok_or("no run")?.run.drv;
        db.runs_of(&drv, account(0)?, true, 20).await?;
        times.push(start.elapsed());
    }
    report("a request, its run, and 20 runs of its derivation", times);
    for key in 0..100 {
        let mut other = build(key)?;
        other.run.id = build_id(rows + key);
        for output in other.outputs.values_mut() {
            output.object.nar_size += 1;
        }
        db.record_check(&other, account(1)?, true).await?;
    }
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let start = Instant::now();
        db.irreproducible(account(0)?, true, 20).await?;
        times.push(start.elapsed());
    }
    report("irreproducible, 20 of 100 keys", times);
    db.close().await;
    Ok(())
}

fn build_id(n: u64) -> BuildId {
    let mut id = [0; 16];
    for (to, from) in id.iter_mut().zip(digest(&format!("build {n}"))) {
        *to = from;
    }
    // The first six bytes of a UUID of version 7 are its time.
    for (to, from) in id.iter_mut().zip(n.to_be_bytes().into_iter().skip(2)) {
        *to = from;
    }
    BuildId(id)
}

fn build(n: u64) -> Result<BuildRecord, Failure> {
    let output = Object {
        path: path(n)?,
        content: NarHash::new(digest(&format!("content {n}"))),
        nar_size: n,
        references: BTreeSet::new(),
        ca: None,
        self_references: None,
    };
    Ok(BuildRecord {
        run: RunRecord {
            id: build_id(n),
            key: BuildKey(digest(&format!("key {n}"))),
            drv_path: path(n)?,
            system: "x86_64-linux".to_owned(),
            drv: DerivationDigest(digest(&format!("drv {}", n / 10))),
            inputs: (1..=2_000)
                .map(|o| ObjectId((n % 1_000 + o * 50) as i64))
                .collect(),
            started: n,
            stopped: n,
            wall_ms: 10,
            cpu_user_us: 1_000,
            cpu_system_us: 10,
            memory_peak: None,
            disk_bytes: 0,
        },
        outputs: [("out".to_owned(), OutputRecord { object: output })].into(),
    })
}
