//! Times the hot paths: `cargo run -p firn-db --example measure -- <directory> [<rows>]`; the directory must be empty or new. With
//! `fill <file> <rows>` it only makes one database.
//!
//! Makes databases with 10,000 and with `<rows>` (1,000,000) claims of 100 accounts, each with a signature that the readers trust, and prints
//! what writing takes. Databases that are there already are taken as they are. Then asks both in turn for evidence that is all there, with
//! policies of one key and 0 to 2 accounts, and prints the least and the median time of each, and their ratios.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use firn_core::{AccountId, AccountName, Claim, KeyId, Object, Origin, Policy, Trust};
use firn_db::SqliteDatabase;
use firn_nix::signature::SecretKey;
use firn_nix::{Hash, NarHash, StorePath};
use firn_service::ports::{
    Accounts as _, Builds as _, DatabaseError, Gives, KeyFor, Policies as _, Proof, RequestRecord, Views as _,
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
                    self_references: None,
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

async fn record(
    db: &SqliteDatabase,
    account: AccountId,
    claims: &[Claim],
    key: KeyId,
) -> Result<(), DatabaseError> {
    db.record_claims(account, claims, &proofs(claims, key), key).await
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
    println!("{what:<58} median {:>9.3?}  90% {:>9.3?}", at(50), at(90));
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args_os().skip(1);
    let usage = "usage: measure <directory> [<rows>] | measure fill <file> <rows>";
    let directory = PathBuf::from(arguments.next().ok_or(usage)?);
    if directory == Path::new("fill") {
        let file = PathBuf::from(arguments.next().ok_or(usage)?);
        let rows = arguments.next().and_then(|a| a.into_string().ok()).ok_or(usage)?;
        let db = SqliteDatabase::open(&file).await?;
        let public_key = SecretKey::from_seed(KEY, &[7; 32])?.public_key();
        let (key, _) = db.register_key(KeyFor::Operator, &public_key).await?;
        fill(&db, key, rows.parse()?).await?;
        db.close().await;
        return Ok(());
    }
    let rows: u64 = match arguments.next().and_then(|a| a.into_string().ok()) {
        Some(rows) => rows.parse()?,
        None => 1_000_000,
    };
    std::fs::create_dir_all(&directory)?;
    let mut both = Vec::new();
    for rows in [10_000, rows] {
        both.push(open(&directory.join(format!("{rows}.sqlite")), rows).await?);
    }
    if let [few, many] = both.as_slice() {
        compare(few, many).await?;
    }
    for (db, _) in both {
        db.close().await;
    }
    Ok(())
}

const FRESH: u64 = 20_000_000;

/// The database with the numbers of its accounts and its key.
type Filled = (SqliteDatabase, Known);

#[derive(Clone)]
struct Known {
    accounts: Vec<AccountId>,
    key: KeyId,
}

async fn open(file: &Path, rows: u64) -> Result<Filled, Failure> {
    let there = file.exists();
    let db = SqliteDatabase::open(file).await?;
    let public_key = SecretKey::from_seed(KEY, &[7; 32])?.public_key();
    let (key, _) = db.register_key(KeyFor::Operator, &public_key).await?;
    if !there {
        println!("\n{rows} claims of {ACCOUNTS} accounts");
        measure(&db, key, rows).await?;
    }
    let mut accounts: Vec<AccountId> = db.accounts().await?.iter().map(|a| a.id).collect();
    accounts.sort();
    Ok((db, Known { accounts, key }))
}

/// Asks both in turn, so that what else the machine does slows down both.
async fn compare((few, few_known): &Filled, (many, many_known): &Filled) -> Result<(), Failure> {
    let asked: Vec<StorePath> = (FRESH..FRESH + BATCH).map(path).collect::<Result<_, _>>()?;
    let stranger: Vec<StorePath> = (FRESH + BATCH..FRESH + 2 * BATCH)
        .map(path)
        .collect::<Result<_, _>>()?;
    let policy = |known: &Known, trusted: usize| -> Result<Policy, Failure> {
        let of = |n: usize| known.accounts.get(n).copied().ok_or("too few accounts");
        let others = [of(7)?, of(60)?].map(|other| (other, Trust::Uploads));
        Ok(Policy {
            account: of(50)?,
            keys: vec![known.key],
            accounts: others.into_iter().take(trusted).collect(),
            told_by: others.into_iter().take(trusted).collect(),
        })
    };
    println!(
        "\n{:<58} least, median → least, median; ratios",
        "evidence, 1 key"
    );
    for trusted in 0..=2 {
        let (one, other) = (policy(few_known, trusted)?, policy(many_known, trusted)?);
        for (what, asked) in [
            ("2,000 paths that it has", asked.as_slice()),
            ("2,000 paths of a stranger", stranger.as_slice()),
            ("1 path", asked.get(..1).unwrap_or_default()),
        ] {
            let mut times = [Vec::new(), Vec::new()];
            let mut found = 0;
            for _ in 0..if asked.len() == 1 { 500 } else { 40 } {
                for ((db, policy), times) in [(few, &one), (many, &other)].into_iter().zip(&mut times) {
                    let start = Instant::now();
                    found = db.evidence(policy, asked).await?.len();
                    times.push(start.elapsed());
                }
            }
            ratio(&format!("{trusted} accounts, {what} ({found} rows)"), times);
        }
    }
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..1_000 {
        for (db, times) in [few, many].into_iter().zip(&mut times) {
            let start = Instant::now();
            db.epoch().await?;
            times.push(start.elapsed());
        }
    }
    ratio("epoch", times);
    Ok(())
}

fn ratio(what: &str, mut times: [Vec<Duration>; 2]) {
    let [few, many] = times.each_mut().map(|times| {
        times.sort();
        let at = |n: usize| times.get(n).copied().unwrap_or_default();
        [at(0), at(times.len() / 2)]
    });
    let [least, median] = [0, 1].map(|n| {
        let at = |times: &[Duration; 2]| times.get(n).map_or(0.0, Duration::as_secs_f64);
        at(&many) / at(&few)
    });
    println!("{what:<58} {few:.3?} → {many:.3?}; {least:.2}, {median:.2}");
}

/// Accounts with so many claims in all.
async fn fill(db: &SqliteDatabase, key: KeyId, rows: u64) -> Result<Vec<AccountId>, Failure> {
    let mut accounts = Vec::new();
    for n in 0..ACCOUNTS {
        let account = db
            .create_account(&AccountName::parse(&format!("a{n}"))?, "secret", Gives::ALL, 1)
            .await?
            .id;
        accounts.push(account);
        // Half of the objects are everybody's, half are its own; as many as there are rows in all.
        let each = rows / ACCOUNTS;
        let own = 1_000_000 + n * each;
        record(db, account, &claims(0..each / 2)?, key).await?;
        record(db, account, &claims(own..own + each / 2)?, key).await?;
    }
    Ok(accounts)
}

async fn measure(db: &SqliteDatabase, key: KeyId, rows: u64) -> Result<(), Failure> {
    let start = Instant::now();
    let accounts = fill(db, key, rows).await?;
    println!("filled in {:.1?}", start.elapsed());

    let (Some(reader), Some(writer)) = (accounts.get(50).copied(), accounts.get(7).copied()) else {
        return Err("no accounts".into());
    };
    let mut times = Vec::new();
    for n in 0..u64::from(TIMES) {
        let new = claims(FRESH + n * BATCH..FRESH + (n + 1) * BATCH)?;
        let start = Instant::now();
        record(db, writer, &new, key).await?;
        times.push(start.elapsed());
    }
    report("record 2,000 new claims", times);

    let known = claims(FRESH..FRESH + BATCH)?;
    let mut times = Vec::new();
    for n in 0..TIMES {
        let other = accounts.get(20 + n as usize).copied().unwrap_or(writer);
        let start = Instant::now();
        record(db, other, &known, key).await?;
        times.push(start.elapsed());
    }
    report("record 2,000 claims of known objects", times);

    // What strangers brought and the key has signed, and the reader is told of for the first time.
    let policy = Policy {
        keys: vec![key],
        ..Policy::alone(reader)
    };
    let mut times = Vec::new();
    for n in 1..u64::from(TIMES) {
        let asked: Vec<StorePath> = (FRESH + n * BATCH..FRESH + (n + 1) * BATCH)
            .map(path)
            .collect::<Result<_, _>>()?;
        let evidence = db.evidence(&policy, &asked).await?;
        let loose = evidence.into_iter().filter(|e| !e.kept);
        let loose = loose.map(|e| (e.claim.object.path, e.id)).collect();
        let start = Instant::now();
        db.tell(&policy, &loose).await?;
        times.push(start.elapsed());
    }
    report("tell 2,000 paths for the first time", times);

    // Paths that the reader, and the accounts that it trusts, have; and what only the key has signed.
    for other in [reader, accounts.get(60).copied().unwrap_or(writer)] {
        record(db, other, &known, key).await?;
    }
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
            reason: "".into(),
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
    Ok(())
}
