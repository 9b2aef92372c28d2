//! Times the hot paths: `cargo run -p firn-db --example measure -- <directory> [<rows> [claims|runs]]`; the directory must be empty or new.
//!
//! Prints, for 10,000 claims and for `<rows>` (1,000,000) of 100 accounts, each with a signature that the reader trusts: how long the
//! evidence for 2,000 paths takes that are all there, with policies of one key and 0 to 2 accounts, and the ratio of both numbers; then what
//! the other hot operations take. Then what sums and questions about the past take after `<rows>` requests.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use firn_core::{
    AccountName, BuildId, BuildKey, Claim, KeyId, Object, ObjectId, Origin, Policy, Rung, Trust,
};
use firn_db::SqliteDatabase;
use firn_nix::signature::SecretKey;
use firn_nix::{Hash, NarHash, StorePath};
use firn_service::ports::{
    Accounts as _, BuildRecord, Builds as _, DatabaseError, DerivationDigest, OutputRecord, Policies as _,
    Proof, RequestRecord, RunRecord, Views as _,
};
use tokio::task::JoinSet;

type Failure = Box<dyn Error + Send + Sync>;

const ACCOUNTS: u64 = 100;
const BATCH: u64 = 2_000;
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

fn claims(range: std::ops::Range<u64>) -> Result<Vec<Claim>, Failure> {
    range
        .map(|n| {
            let references: Result<BTreeSet<StorePath>, Failure> = (n..n + 5).map(path).collect();
            Ok(Claim {
                object: Object {
                    path: path(n)?,
                    content: NarHash::new(digest(&format!("content {n}"))),
                    nar_size: n,
                    references: references?,
                    ca: None,
                },
                origin: Origin::Uploaded,
                deriver: Some(path(n + 1)?),
                signatures: BTreeSet::from([signature(n)]),
                registered: 1,
                cache: None,
                shareable: true,
            })
        })
        .collect()
}

const KEY: &str = "cache.example.org-1";

/// As long as a real one.
fn signature(n: u64) -> String {
    format!("{KEY}:{n:0>86}==")
}

/// That the key made the signature of each claim.
fn proofs(claims: &[Claim], key: KeyId) -> Vec<Proof> {
    let of_claim = |(claim, c): (usize, &Claim)| {
        Some(Proof {
            claim,
            signature: c.signatures.first()?.clone(),
            key_name: KEY.to_owned(),
            key: Some(key),
        })
    };
    claims.iter().enumerate().filter_map(of_claim).collect()
}

/// Median time of the evidence for 2,000 paths, by number of accounts in the policy; and of one path.
type Times = Vec<(String, Duration)>;

async fn record(
    db: &SqliteDatabase,
    account: firn_core::AccountId,
    claims: &[Claim],
    key: KeyId,
) -> Result<(), DatabaseError> {
    db.record_claims(account, claims, &proofs(claims, key), key).await
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
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
            .ok_or("usage: measure <directory> [<rows> [claims|runs]]")?,
    );
    let rows: u64 = match arguments.next().and_then(|a| a.into_string().ok()) {
        Some(rows) => rows.parse()?,
        None => 1_000_000,
    };
    std::fs::create_dir_all(&directory)?;
    let only = arguments.next();
    let mut all: Vec<Times> = Vec::new();
    if only.as_deref() != Some("runs".as_ref()) {
        for rows in [10_000, rows] {
            println!("\n{rows} claims of {ACCOUNTS} accounts");
            all.push(measure(&directory.join(format!("{rows}.sqlite")), rows).await?);
        }
    }
    if only.as_deref() != Some("claims".as_ref()) {
        println!("\n{rows} requests of {ACCOUNTS} accounts");
        measure_runs(&directory.join("runs.sqlite"), rows).await?;
    }
    println!();
    if let [few, many] = all.as_slice() {
        for ((what, few), (_, many)) in few.iter().zip(many) {
            let ratio = many.as_secs_f64() / few.as_secs_f64();
            println!("{what:<58} {few:>9.3?} → {many:>9.3?}  ratio {ratio:.2}");
        }
    }
    Ok(())
}

async fn measure(file: &std::path::Path, rows: u64) -> Result<Times, Failure> {
    let db = SqliteDatabase::open(file).await?;
    let public_key = SecretKey::from_seed(KEY, &[7; 32])?.public_key();
    let (key, _) = db.register_key(&public_key).await?;
    let start = Instant::now();
    let mut accounts = Vec::new();
    for n in 0..ACCOUNTS {
        let account = db
            .create_account(&AccountName::parse(&format!("a{n}"))?, "secret", 1)
            .await?
            .id;
        accounts.push(account);
        // Half of the objects are everybody's, half are its own; as many as there are rows in all.
        let each = rows / ACCOUNTS;
        let own = 1_000_000 + n * each;
        record(&db, account, &claims(0..each / 2)?, key).await?;
        record(&db, account, &claims(own..own + each / 2)?, key).await?;
    }
    println!("filled in {:.1?}", start.elapsed());

    let (Some(reader), Some(writer)) = (accounts.get(50).copied(), accounts.get(7).copied()) else {
        return Err("no accounts".into());
    };
    let fresh = 20_000_000;
    let mut times = Vec::new();
    for n in 0..u64::from(TIMES) {
        let new = claims(fresh + n * BATCH..fresh + (n + 1) * BATCH)?;
        let start = Instant::now();
        record(&db, writer, &new, key).await?;
        times.push(start.elapsed());
    }
    report("record 2,000 new claims", times);

    let known = claims(fresh..fresh + BATCH)?;
    let mut times = Vec::new();
    for n in 0..TIMES {
        let other = accounts.get(20 + n as usize).copied().unwrap_or(writer);
        let start = Instant::now();
        record(&db, other, &known, key).await?;
        times.push(start.elapsed());
    }
    report("record 2,000 claims of known objects", times);

    // Paths that the reader, and the accounts that it trusts, have; and what only the key has signed.
    for other in [reader, accounts.get(60).copied().unwrap_or(writer)] {
        record(&db, other, &known, key).await?;
    }
    let asked: Vec<StorePath> = (fresh..fresh + BATCH).map(path).collect::<Result<_, _>>()?;
    let stranger: Vec<StorePath> = (fresh + BATCH..fresh + 2 * BATCH)
        .map(path)
        .collect::<Result<_, _>>()?;
    let mut results = Times::new();
    let others: Vec<_> = [7, 60]
        .iter()
        .filter_map(|n| Some((*accounts.get(*n)?, Trust::Uploads)))
        .collect();
    for trusted in 0..=others.len() {
        let policy = Policy {
            account: reader,
            keys: vec![key],
            accounts: others.iter().take(trusted).copied().collect(),
        };
        for (what, asked) in [
            ("2,000 paths", asked.as_slice()),
            ("2,000 paths of a stranger", stranger.as_slice()),
            ("1 path", asked.get(..1).unwrap_or_default()),
        ] {
            let mut times = Vec::new();
            let mut found = 0;
            for _ in 0..if asked.len() == 1 { 500 } else { 30 } {
                let start = Instant::now();
                found = db.evidence(&policy, asked).await?.len();
                times.push(start.elapsed());
            }
            let what = format!("evidence, 1 key, {trusted} accounts, {what} ({found})");
            results.push((what.clone(), median(&mut times)));
            report(&what, times);
        }
    }
    let mut times = Vec::new();
    for _ in 0..1_000 {
        let start = Instant::now();
        db.epoch().await?;
        times.push(start.elapsed());
    }
    results.push(("epoch".to_owned(), median(&mut times)));
    report("epoch", times);

    let singles = claims(30_000_000..30_004_000)?;
    for callers in [1, 20] {
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for caller in 0..callers {
            let (db, singles) = (db.clone(), singles.clone());
            let account = accounts.get(caller).copied().unwrap_or(writer);
            tasks.spawn(async move {
                for claim in singles.iter().skip(caller * 200).take(200) {
                    record(&db, account, std::slice::from_ref(claim), key).await?;
                }
                Ok::<(), DatabaseError>(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        let rate = (callers * 200) as f64 / start.elapsed().as_secs_f64();
        println!(
            "{:<58} {rate:.0} a second",
            format!("record one claim, {callers} callers at once")
        );
    }

    let start = Instant::now();
    for n in 0..1_000 {
        db.record_request(&RequestRecord {
            account: writer,
            drv_path: path(n)?,
            rung: None,
            reason: String::new(),
            build: None,
            time: n,
            wall_ms: n,
        })
        .await?;
    }
    db.requests(writer, 1).await?;
    println!(
        "{:<58} {:.0} a second",
        "record a request, until all are seen",
        1_000.0 / start.elapsed().as_secs_f64()
    );
    let start = Instant::now();
    let contents = db.contents().await?.len();
    println!("{:<58} {:.3?} ({contents})", "contents", start.elapsed());
    let start = Instant::now();
    db.referrers(&Policy::alone(reader), &path(10)?).await?;
    println!("{:<58} {:.3?}", "referrers", start.elapsed());
    db.close().await;
    Ok(results)
}

/// Requests that one run answers.
const EACH: u64 = 5;

/// `<rows>` requests of all accounts, half of them of one, answered by a fifth as many runs of 2,000 inputs each.
async fn measure_runs(file: &std::path::Path, rows: u64) -> Result<(), Failure> {
    let db = SqliteDatabase::open(file).await?;
    let mut accounts = Vec::new();
    for n in 0..ACCOUNTS {
        let name = AccountName::parse(&format!("a{n}"))?;
        accounts.push(db.create_account(&name, "secret", 1).await?.id);
    }
    let account = |n: u64| accounts.get((n % ACCOUNTS) as usize).copied().ok_or("no account");
    let start = Instant::now();
    let mut waiting = JoinSet::new();
    for n in 0..rows / EACH {
        let record = build(n)?;
        let (db, account) = (db.clone(), account(n)?);
        waiting.spawn(async move { db.record_build(&record, account, true).await });
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
            reason: "the same build key had succeeded before".to_owned(),
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
    };
    Ok(BuildRecord {
        run: RunRecord {
            id: build_id(n),
            key: BuildKey(digest(&format!("key {n}"))),
            drv_path: path(n)?,
            drv: DerivationDigest(digest(&format!("drv {}", n / 10))),
            inputs: (1..=2_000)
                .map(|o| ObjectId((n % 1_000 + o * 50) as i64))
                .collect(),
            started: n,
            stopped: n,
            wall_ms: 10,
            cpu_user_us: 1_000,
            cpu_system_us: 10,
        },
        outputs: [("out".to_owned(), OutputRecord { object: output })].into(),
    })
}
