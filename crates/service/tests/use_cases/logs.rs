//! Everybody who waits gets the whole log.

use firn_protocol::Store as _;
use firn_service::{BuildLog, LogSource};

use crate::support::{Asked, Drv, World, build, path, soon};

async fn whole(mut log: BuildLog) -> String {
    let mut all = Vec::new();
    while let Some(chunk) = soon(log.next()).await.unwrap() {
        all.extend_from_slice(&chunk);
    }
    String::from_utf8(all).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_late_gets_the_log_from_its_start() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let many: Vec<String> = (0..300)
        .map(|n| format!("log:{n} {}\n", "x".repeat(1000)))
        .collect();
    let mut args: Vec<&str> = many.iter().map(String::as_str).collect();
    args.extend(["log:open", "wait", "log: end"]);
    let drv = Drv::new("thing", &args, &[]);
    let mut early = Asked::plain(&alice, &drv);
    world.builder.until(|c| c.waiting == 1).await;
    early.saw(many[299][4..].trim_end()).await;
    let mut late = Asked::plain(&bob, &drv);
    late.saw(many[0][4..].trim_end()).await;
    world.builder.release(1);
    let (early, late) = (early.answer().await.lines(), late.answer().await.lines());
    let expected: Vec<&str> = many
        .iter()
        .map(|line| line[4..].trim_end())
        .chain(["open end"])
        .collect();
    assert_eq!(early[..301], expected);
    assert_eq!(late[..301], expected);
    assert_eq!((early.len(), late.len()), (302, 302));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_ends_before_its_run_does_not_end_the_waiting() {
    let world = World::new();
    let alice = world.account("alice").await;
    let drv = Drv::new("thing", &["log:only\n", "close-log", "wait"], &[]);
    let mut asked = Asked::plain(&alice, &drv);
    asked.saw("only").await;
    world.builder.release(1);
    assert_eq!(
        asked.answer().await.lines(),
        ["only", "firn: built thing in 1.5 s"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_log_at_all() {
    let world = World::new();
    let alice = world.account("alice").await;
    let drv = Drv::new("thing", &[], &[]);
    assert_eq!(build(&alice, &drv).await.lines(), ["firn: built thing in 1.5 s"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_place_for_logs_nothing_runs() {
    let world = World::new();
    let alice = world.account("alice").await;
    std::fs::write(world.log_dir(), "in the way").unwrap();
    let drv = Drv::new("thing", &[], &[]);
    let text = build(&alice, &drv).await.result.unwrap_err().message;
    assert!(
        text.starts_with("internal error: cannot write a build log"),
        "{text}"
    );
    assert_eq!(
        (world.builder.counts().started, world.house.running_builds()),
        (0, 0)
    );
    std::fs::remove_file(world.log_dir()).unwrap();
    assert!(build(&alice, &drv).await.done().status.is_success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_found_while_its_build_runs_and_afterwards() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let (hers, his) = (world.desk("alice").await, world.desk("bob").await);
    let drv = Drv::new("thing-1.0", &["log:first\n", "wait", "log:last\n"], &[]);
    assert!(hers.log("thing").await.is_err());
    let mut asked = Asked::plain(&alice, &drv);
    asked.saw("first").await;
    let running = hers.running();
    assert_eq!((running.len(), &running[0].drv_path), (1, &drv.path));
    assert!(!running[0].queued && !running[0].detached);
    assert!(his.running().is_empty());
    let mut live = hers.log(&drv.path.to_string()).await.unwrap();
    assert_eq!((live.source, live.build), (LogSource::Running, running[0].build));
    assert_eq!(soon(live.next()).await.unwrap().unwrap(), "first\n");
    assert!(live.next_now().unwrap().is_none());
    let theirs = his.log(&drv.path.to_string()).await.err().unwrap();
    let nothing = his.log(&path("nothing.drv").to_string()).await.err().unwrap();
    assert_eq!(
        theirs.message.replace(&drv.path.to_string(), ""),
        nothing.message.replace(&path("nothing.drv").to_string(), "")
    );
    world.builder.release(1);
    assert_eq!(whole(live).await, "last\n");
    asked.answer().await.done();
    assert!(hers.running().is_empty());
    for wanted in [
        drv.path.to_string(),
        drv.path.base_name().to_owned(),
        "thing-1.0".into(),
        "thing".into(),
        drv.out().to_string(),
    ] {
        let log = hers.log(&wanted).await.unwrap();
        assert_eq!((log.source, log.build.is_some()), (LogSource::Stored, true));
        assert_eq!(whole(log).await, "first\nlast\n", "{wanted}");
    }
    assert!(his.log("thing").await.is_err());
    // Whom the same build answers gets its log, too.
    build(&bob, &drv).await.done();
    assert_eq!(whole(his.log("thing").await.unwrap()).await, "first\nlast\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_was_left_running_is_found_again() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let (hers, his) = (world.desk("alice").await, world.desk("bob").await);
    let drv = Drv::new("thing", &["log:first\n", "wait"], &[]);
    // Bob's waits for it only as long as he is there.
    hers.set(None, "keep-builds-running", Some("true")).await.unwrap();
    let (mut asked, mut joined) = (Asked::plain(&alice, &drv), Asked::plain(&bob, &drv));
    asked.saw("first").await;
    joined.saw("first").await;
    asked.leave().await;
    joined.leave().await;
    let running = hers.running();
    assert!(running.len() == 1 && running[0].detached, "{running:?}");
    assert!(his.running().is_empty());
    assert!(his.log("thing").await.is_err());
    let log = hers.log("thing").await.unwrap();
    world.builder.release(1);
    assert_eq!(whole(log).await, "first\n");
    world.idle().await;
    assert_eq!(whole(hers.log("thing").await.unwrap()).await, "first\n");
    let noted = world.requests("alice").await;
    assert_eq!(noted.len(), 1);
    assert!(
        noted[0].reason.ends_with("after its client had left"),
        "{noted:?}"
    );
    assert!(world.requests("bob").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_a_client_brings_is_its_accounts() {
    let world = World::new();
    let (alice, _bob) = (world.account("alice").await, world.account("bob").await);
    let (hers, his) = (world.desk("alice").await, world.desk("bob").await);
    let drv = Drv::new("thing-1.0", &["log:true\n"], &[]);
    let mut brought = &b"brought\n"[..];
    alice.add_build_log(drv.path.clone(), &mut brought).await.unwrap();
    let log = hers.log("thing").await.unwrap();
    assert_eq!((log.source, log.build), (LogSource::Brought, None));
    assert_eq!(whole(log).await, "brought\n");
    assert!(his.log("thing").await.is_err());
    // What was built here says more than what somebody brought.
    build(&alice, &drv).await.done();
    assert_eq!(whole(hers.log("thing").await.unwrap()).await, "true\n");
    let too_long = tokio::io::AsyncReadExt::take(tokio::io::repeat(b'x'), (64 << 20) + 1);
    let refused = alice.add_build_log(path("long.drv"), &mut { too_long }).await;
    assert!(refused.unwrap_err().message.contains("more than 67108864 bytes"));
    let folder = world.log_dir().join("brought");
    let kept: Vec<_> = walk(&folder);
    assert_eq!(kept, [drv.path.base_name()]);
    world
        .house
        .remove_account(&world.named("alice").await)
        .await
        .unwrap();
    assert!(walk(&folder).is_empty());
}

fn walk(folder: &std::path::Path) -> Vec<String> {
    let accounts = std::fs::read_dir(folder).unwrap();
    let files = accounts.flat_map(|dir| std::fs::read_dir(dir.unwrap().path()).unwrap());
    files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect()
}
