//! Times the hot paths: `cargo run -p firn-db --example measure -- <directory> [<rows>]`; the directory must be empty or new.
//!
//! Prints, for 10,000 rows of evidence and for `<rows>` (1,000,000) of 100 accounts, how long 2,000 claims take to read and to record,
//! and how many single claims are recorded per second by 1 and by 20 callers at once.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use firn_core::{AccountId, AccountName, Claim, EvidenceKind, Object};
use firn_db::SqliteDatabase;
use firn_nix::{Hash, NarHash, StorePath};
use firn_service::ports::{Accounts as _, Builds as _, DatabaseError, RequestRecord, Views as _};
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
                kind: EvidenceKind::Uploaded,
                deriver: Some(path(n + 1)?),
                signatures: BTreeSet::from([format!("cache.example.org-1:{}", "A".repeat(88))]),
                registered: 1,
            })
        })
        .collect()
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
    println!("{what:<58} median {:>9.3?}  90% {:>9.3?}", at(50), at(90));
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args_os().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("usage: measure <directory> [<rows>]")?);
    let rows: u64 = match arguments.next().and_then(|a| a.into_string().ok()) {
        Some(rows) => rows.parse()?,
        None => 1_000_000,
    };
    std::fs::create_dir_all(&directory)?;
    for rows in [10_000, rows] {
        println!("\n{rows} claims of {ACCOUNTS} accounts");
        measure(&directory.join(format!("{rows}.sqlite")), rows).await?;
    }
    Ok(())
}

async fn measure(file: &std::path::Path, rows: u64) -> Result<(), Failure> {
    let db = SqliteDatabase::open(file).await?;
    let start = Instant::now();
    let mut accounts = Vec::new();
    for n in 0..ACCOUNTS {
        let account = db
            .create_account(&AccountName::parse(&format!("a{n}"))?, 1)
            .await?
            .id;
        accounts.push(account);
        // Half of the objects are everybody's, half are its own; as many as there are rows in all.
        let each = rows / ACCOUNTS;
        let own = 1_000_000 + n * each;
        db.record_claims(account, &claims(0..each / 2)?).await?;
        db.record_claims(account, &claims(own..own + each / 2)?).await?;
    }
    println!("filled in {:.1?}", start.elapsed());

    let (Some(reader), Some(writer)) = (accounts.get(50).copied(), accounts.get(7).copied()) else {
        return Err("no accounts".into());
    };
    // As many hits whatever the number of rows.
    let each = rows / ACCOUNTS / 2;
    let own = 1_000_000 + 50 * each * 2;
    let asked: Vec<StorePath> = (0..50)
        .chain(own..own + 50)
        .chain(9_000_000..9_000_000 + BATCH - 100)
        .map(path)
        .collect::<Result<_, _>>()?;
    time(&db, reader, &asked, "claims of 2,000 paths, 100 of them there").await?;

    let fresh = 20_000_000;
    let mut times = Vec::new();
    for n in 0..u64::from(TIMES) {
        let new = claims(fresh + n * BATCH..fresh + (n + 1) * BATCH)?;
        let start = Instant::now();
        db.record_claims(writer, &new).await?;
        times.push(start.elapsed());
    }
    report("record 2,000 new claims", times);

    let known = claims(fresh..fresh + BATCH)?;
    let mut times = Vec::new();
    for n in 0..TIMES {
        let other = accounts.get(20 + n as usize).copied().unwrap_or(writer);
        let start = Instant::now();
        db.record_claims(other, &known).await?;
        times.push(start.elapsed());
    }
    report("record 2,000 claims of known objects", times);

    let asked: Vec<StorePath> = (fresh..fresh + BATCH).map(path).collect::<Result<_, _>>()?;
    time(&db, writer, &asked, "claims of 2,000 paths, all there").await?;
    let one: Vec<StorePath> = asked.iter().take(1).cloned().collect();
    time(&db, writer, &one, "claims of 1 path").await?;

    let singles = claims(30_000_000..30_004_000)?;
    for callers in [1, 20] {
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for caller in 0..callers {
            let (db, singles) = (db.clone(), singles.clone());
            let account = accounts.get(caller).copied().unwrap_or(writer);
            tasks.spawn(async move {
                for claim in singles.iter().skip(caller * 200).take(200) {
                    db.record_claims(account, std::slice::from_ref(claim)).await?;
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
    db.referrers(reader, &path(10)?).await?;
    println!("{:<58} {:.3?}", "referrers", start.elapsed());
    db.close().await;
    Ok(())
}

async fn time(
    db: &SqliteDatabase,
    account: AccountId,
    asked: &[StorePath],
    what: &str,
) -> Result<(), Failure> {
    let mut times = Vec::new();
    let mut found = 0;
    for _ in 0..TIMES {
        let start = Instant::now();
        found = db.claims(account, asked).await?.len();
        times.push(start.elapsed());
    }
    report(&format!("{what} ({found})"), times);
    Ok(())
}
