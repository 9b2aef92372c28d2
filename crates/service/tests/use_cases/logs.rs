//! Everybody who waits gets the whole log.

use crate::support::{Asked, Drv, World, build};

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
