//! Limits and the log.

use std::time::Duration;

use bytes::Bytes;
use firn_sandbox::{ExitKind, run};

use super::fixture::Fixture;

#[tokio::test]
async fn exit_status_and_signal_are_told() {
    let Some(mut it) = Fixture::new() else { return };
    let (exit, log) = it.sh("echo last words; exit 7").run().await;
    assert_eq!((exit.status, log.as_str()), (ExitKind::Exited(7), "last words\n"));
    assert_eq!(exit.log_bytes, 11);
    assert!(exit.max_rss_bytes > 0);
    // A process 1 gets no signal from itself that it does not handle, so a child stands for it.
    let (exit, _) = it.sh("sh -c 'kill -9 $$'; exit $?").run().await;
    assert_eq!(exit.status, ExitKind::Exited(137));
}

#[tokio::test]
async fn long_runs_are_stopped() {
    let Some(mut it) = Fixture::new() else { return };
    it.spec.limits.wall = Some(Duration::from_millis(300));
    let (exit, log) = it
        .sh("trap '' TERM INT; echo before; while true; do sleep 0.1; echo .; done")
        .run()
        .await;
    assert_eq!(exit.status, ExitKind::TimedOut);
    assert!(log.starts_with("before\n"), "{log}");
    it.until_gone().await;
}

#[tokio::test]
async fn silent_runs_are_stopped() {
    let Some(mut it) = Fixture::new() else { return };
    it.spec.limits.silent = Some(Duration::from_millis(400));
    let (exit, log) = it
        .sh("for i in 1 2 3 4 5 6; do sleep 0.1; echo $i; done; exec sleep 1000")
        .run()
        .await;
    assert_eq!(
        (exit.status, log.as_str()),
        (ExitKind::SilentTimedOut, "1\n2\n3\n4\n5\n6\n")
    );
}

#[tokio::test]
async fn floods_are_cut_at_the_byte() {
    let Some(mut it) = Fixture::new() else { return };
    it.spec.limits.log_bytes = Some(100_001);
    let (exit, log) = it.sh("while true; do echo 123456789; done").run().await;
    assert_eq!(
        (exit.status, exit.log_bytes, log.len()),
        (ExitKind::LogLimit, 100_001, 100_001)
    );
    it.spec.limits.log_bytes = Some(10);
    let (exit, log) = it.sh("echo 123456789").run().await;
    assert_eq!((exit.status, log.len()), (ExitKind::Exited(0), 10));
}

#[tokio::test]
async fn a_slow_reader_gets_every_line_and_does_not_make_the_command_silent() {
    let Some(mut it) = Fixture::new() else { return };
    it.spec.limits.silent = Some(Duration::from_millis(500));
    it.sh("seq 1 60000");
    let (log, mut chunks) = tokio::sync::mpsc::channel::<Bytes>(1);
    let read = tokio::spawn(async move {
        let mut all = Vec::new();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        while let Some(chunk) = chunks.recv().await {
            all.extend(chunk);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        all
    });
    let exit = run(&it.helper, &it.spec, log, std::future::pending())
        .await
        .unwrap();
    let expected: String = (1..=60000).map(|n| format!("{n}\n")).collect();
    assert_eq!(exit.status, ExitKind::Exited(0));
    assert_eq!(String::from_utf8(read.await.unwrap()).unwrap(), expected);
}

#[tokio::test]
async fn output_without_a_receiver_is_thrown_away() {
    let Some(mut it) = Fixture::new() else { return };
    it.sh("seq 1 60000");
    let (log, chunks) = tokio::sync::mpsc::channel::<Bytes>(1);
    drop(chunks);
    let exit = run(&it.helper, &it.spec, log, std::future::pending())
        .await
        .unwrap();
    assert_eq!(exit.status, ExitKind::Exited(0));
}

#[tokio::test]
async fn control_groups_are_joined_before_the_command_runs() {
    let Some(mut it) = Fixture::new() else { return };
    let top = [
        "/sys/fs/cgroup/cgroup.controllers",
        "/sys/fs/cgroup/unified/cgroup.controllers",
    ]
    .map(std::path::Path::new)
    .into_iter()
    .find(|path| path.exists());
    let Some(top) = top.and_then(|path| path.parent()) else {
        eprintln!("skipped: no control groups of version 2");
        return;
    };
    let group = top.join(format!("firn-sandbox-test-{}", it.uid));
    if let Err(error) = std::fs::create_dir(&group) {
        eprintln!("skipped: cannot make {}: {error}", group.display());
        return;
    }
    it.spec.cgroups = vec![group.clone()];
    it.sh("cat /proc/self/cgroup > /build/cgroup; touch /build/started; sleep 1000");
    let (log, _chunks) = tokio::sync::mpsc::channel::<Bytes>(8);
    let members = std::cell::Cell::new(String::new());
    let exit = run(&it.helper, &it.spec, log, async {
        it.until_started().await;
        members.set(std::fs::read_to_string(group.join("cgroup.procs")).unwrap());
    })
    .await;
    std::fs::remove_dir(&group).unwrap();
    assert_eq!(exit.unwrap().status, ExitKind::Cancelled);
    assert!(members.take().lines().count() >= 1);
    let seen = std::fs::read(it.spec.build_scratch.join("cgroup")).unwrap();
    assert!(
        !seen.windows(4).any(|window| window == b"firn"),
        "{}",
        seen.escape_ascii()
    );
}
