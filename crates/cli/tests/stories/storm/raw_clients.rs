//! Clients that are fast to start and leave without a word.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use firn_protocol::BuildStatus;
use firn_protocol::wire::{Encoder, WireError};
use firn_protocol::worker::Request;

use super::random::Random;
use super::{ACCOUNTS, Storm};
use crate::raw::{Object, Raw, WORKER, content, file, object, path, shell};

/// Builds that all accounts ask for.
const SHARED_BUILDS: u64 = 40;

/// One client until the storm is over.
pub async fn run(storm: Arc<Storm>, number: u64, mut random: Random) {
    let which = usize::try_from(number).unwrap() % ACCOUNTS.len();
    let mut made = 0;
    while !storm.is_over() {
        // A server that is being restarted turns clients away.
        if session(&storm, which, number, &mut made, &mut random)
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(random.between(20, 200))).await;
        }
    }
}

/// Connects, does some things, and leaves in one way or another.
async fn session(
    storm: &Storm,
    which: usize,
    number: u64,
    made: &mut u64,
    random: &mut Random,
) -> Result<(), WireError> {
    let account = ACCOUNTS[which];
    let mut raw = if random.one_in(4) {
        Raw::ssh(&storm.ssh_configs[which])
    } else {
        Raw::stdio_in(&storm.data_dir, account, WORKER)
    };
    raw.shake().await?;
    for _ in 0..random.between(1, 8) {
        *made += 1;
        match random.between(0, 6) {
            0 => upload(storm, account, &mut raw, &own(number, *made, random)).await?,
            1 => batch(storm, account, &mut raw, number, *made, random).await?,
            // The same path for everybody, with bytes of each account's own.
            2 => {
                let name = format!("shared-{}", random.between(0, 10));
                upload(
                    storm,
                    account,
                    &mut raw,
                    &object(&name, file(format!("{name} of {account}").as_bytes())),
                )
                .await?;
            }
            3 | 4 => build(storm, account, &mut raw, random).await?,
            _ => look(storm, account, &mut raw, random).await?,
        }
    }
    if random.one_in(3) {
        raw.end().await;
        return Ok(());
    }
    storm.disconnects.fetch_add(1, Ordering::Relaxed);
    match random.between(0, 3) {
        0 => {
            let object = own(number, *made + 1_000_000, random);
            storm
                .memory
                .expect(account, &object.info.path, object.info.nar_hash);
            raw.request(&Request::AddToStoreNar(object.info.clone())).await?;
            let half = &object.nar[..object.nar.len() / 2];
            raw.send(|e| _ = e.len(half.len()).raw(half)).await?;
        }
        1 => {
            let name = format!("endless-{number}-{made}");
            let (drv_path, drv) = shell(&name, path(&name), &format!("echo on; sleep {}", storm.marker));
            raw.request(&Request::BuildDerivation(
                drv_path,
                drv,
                firn_protocol::BuildMode::Normal,
            ))
            .await?;
            tokio::time::sleep(Duration::from_millis(random.between(0, 500))).await;
        }
        _ => {}
    }
    raw.kill().await;
    Ok(())
}

/// A new object of this client.
fn own(number: u64, made: u64, random: &mut Random) -> Object {
    let name = format!("own-{number}-{made}");
    let size = usize::try_from(random.between(0, 300_000)).unwrap();
    let mut bytes = name.clone().into_bytes();
    bytes.resize(size, (made % 251) as u8);
    object(&name, file(&bytes))
}

async fn upload(storm: &Storm, account: &str, raw: &mut Raw, object: &Object) -> Result<(), WireError> {
    storm
        .memory
        .expect(account, &object.info.path, object.info.nar_hash);
    raw.try_upload(object).await?.unwrap();
    storm.memory.acknowledge(account, &object.info.path);
    Ok(())
}

/// Several objects at once, each referring to the one before.
async fn batch(
    storm: &Storm,
    account: &str,
    raw: &mut Raw,
    number: u64,
    made: u64,
    random: &mut Random,
) -> Result<(), WireError> {
    let mut objects: Vec<Object> = Vec::new();
    for n in 0..random.between(1, 20) {
        let name = format!("batch-{number}-{made}-{n}");
        let mut object = object(&name, file(name.as_bytes()));
        object
            .info
            .references
            .extend(objects.last().map(|before| before.info.path.clone()));
        storm
            .memory
            .expect(account, &object.info.path, object.info.nar_hash);
        objects.push(object);
    }
    let mut body = Encoder::default();
    body.len(objects.len());
    for object in &objects {
        body.path_info(&object.info).raw(&object.nar);
    }
    raw.request(&Request::AddMultipleToStore).await?;
    raw.body(body.as_bytes()).await?;
    raw.answer().await?.unwrap();
    for object in &objects {
        storm.memory.acknowledge(account, &object.info.path);
    }
    Ok(())
}

/// A build that others ask for as well, perhaps at the same time.
async fn build(storm: &Storm, account: &str, raw: &mut Raw, random: &mut Random) -> Result<(), WireError> {
    let name = format!("built-{}", random.between(0, SHARED_BUILDS));
    let (drv_path, drv) = shell(&name, path(&name), &format!("sleep 0.3; echo {name} > $out"));
    storm.memory.expect(
        account,
        &path(&name),
        content(&file(format!("{name}\n").as_bytes())),
    );
    let result = raw.try_build(&drv_path, &drv).await?.unwrap();
    let text = result.error_msg.escape_ascii();
    assert!(
        matches!(result.status, BuildStatus::Built | BuildStatus::AlreadyValid),
        "{name}: {text}"
    );
    storm.memory.acknowledge(account, &path(&name));
    Ok(())
}

/// What was acknowledged must be there all the time.
async fn look(storm: &Storm, account: &str, raw: &mut Raw, random: &mut Random) -> Result<(), WireError> {
    let Some((path, expected)) = storm.memory.acknowledged(account, random.between(0, 1 << 40)) else {
        return Ok(());
    };
    let nar = raw.try_download(&path).await?.unwrap();
    assert_eq!(content(&nar), expected, "{account}: {path}");
    Ok(())
}
