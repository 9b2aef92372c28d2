//! How builds end, and that nothing is left of them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use firn_builder::groups::{GroupLimits, Groups};
use firn_core::{InputMapping, Object};
use firn_nix::{Derivation, DerivationOutput, StorePath};
use firn_service::ports::{Builder as _, Job, RunFailure};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::firn::Firn;
use super::nix::SHELL;

/// A derivation whose builder is `/bin/sh`, with busybox at `$bb`.
fn derivation(script: &str) -> (StorePath, Derivation) {
    let mut drv = Derivation::default();
    let out = StorePath::parse(b"/nix/store/00000000000000000000000000000002-test").unwrap();
    let env = [("out", out.to_string()), ("bb", busybox().to_string())];
    drv.basic
        .outputs
        .insert("out".into(), DerivationOutput::InputAddressed(out));
    drv.basic.platform = b"x86_64-linux".into();
    drv.basic.builder = b"/bin/sh".into();
    drv.basic.args = vec![b"-ec".into(), script.into()];
    drv.basic
        .env
        .extend(env.map(|(name, value)| (name.into(), value.into())));
    (
        StorePath::parse(b"/nix/store/00000000000000000000000000000003-test.drv").unwrap(),
        drv,
    )
}

fn busybox() -> StorePath {
    StorePath::parse(b"/nix/store/00000000000000000000000000000001-bb").unwrap()
}

/// A builder and a job for it; none, with the reason printed, where there is no busybox.
async fn job(script: &str) -> Option<(Firn, Job)> {
    if !Path::new(SHELL).exists() {
        println!("skipped: there is no {SHELL} here");
        return None;
    }
    let firn = Firn::new();
    let job = firn_job(&firn, script).await;
    Some((firn, job))
}

pub async fn firn_job(firn: &Firn, script: &str) -> Job {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(SHELL, dir.path().join("busybox")).unwrap();
    let content = &firn.content;
    let tree = content
        .ingest_tree(
            dir.path(),
            firn_content::WalkPolicy::Own,
            Default::default(),
            None,
        )
        .unwrap();
    let object = Object {
        path: busybox(),
        content: tree.hash(),
        nar_size: tree.size(),
        references: BTreeSet::new(),
        ca: None,
        self_references: None,
    };
    content.publish([tree]).await.unwrap();
    let (path, drv) = derivation(&script.replace("BB", "$bb/busybox"));
    firn.job(&path, &drv, InputMapping::new([object]))
}

#[tokio::test]
async fn time_outs() {
    let Some((firn, mut job)) = job("while true; do echo busy; BB sleep 0.05; done").await else {
        return;
    };
    job.limits.wall = Duration::from_millis(1500);
    let failure = firn.run(job).await.unwrap_err();
    assert!(
        matches!(&failure, RunFailure::TimedOut(text) if text.ends_with("-test.drv' timed out after 2 seconds")),
        "{failure}"
    );
    assert!(firn.is_tidy());
}

#[tokio::test]
async fn silence() {
    let Some((firn, mut job)) = job("echo once; BB sleep 600").await else {
        return;
    };
    job.limits.silent = Duration::from_secs(1);
    let failure = firn.run(job).await.unwrap_err();
    assert!(
        matches!(&failure, RunFailure::TimedOut(text) if text.ends_with("timed out after 1 seconds of silence")),
        "{failure}"
    );
    assert!(firn.is_tidy());
}

#[tokio::test]
async fn too_much_log() {
    let Some((firn, mut job)) = job("while true; do echo 0123456789; done").await else {
        return;
    };
    job.limits.log_bytes = 10_000;
    let failure = firn.run(job).await.unwrap_err();
    assert!(
        matches!(&failure, RunFailure::LogLimit(text) if text.contains("more than 10000 bytes")),
        "{failure}"
    );
}

#[tokio::test]
async fn log_that_comes_too_fast_is_slowed_and_comes_whole() {
    let Some((firn, mut job)) = job("BB head -c 98304 /dev/zero; echo > $out").await else {
        return;
    };
    // Four seconds' worth comes at once, the rest takes two more.
    job.limits.log_rate = Some(16 << 10);
    let (log, mut chunks) = mpsc::channel::<bytes::Bytes>(4);
    let since = Instant::now();
    let read = async {
        let mut bytes = 0;
        while let Some(chunk) = chunks.recv().await {
            bytes += chunk.len();
        }
        bytes
    };
    let (outcome, bytes) = tokio::join!(firn.builder.run(job, log, CancellationToken::new()), read);
    outcome.result.unwrap();
    assert_eq!(bytes, 98304);
    // Of waiting, only the least is known.
    assert!(since.elapsed() >= Duration::from_secs(2));
}

#[tokio::test]
async fn too_much_output() {
    let script = "BB mkdir $out; BB truncate -s 8000000000000 $out/sparse";
    let Some((firn, job)) = job(script).await else {
        return;
    };
    let failure = firn.run(job).await.unwrap_err();
    assert!(
        matches!(&failure, RunFailure::OutputRejected(text) if text.contains("larger than 1073741824 bytes")),
        "{failure}"
    );
    assert!(firn.is_tidy());
}

#[tokio::test]
async fn deep_and_locked_trees_are_removed() {
    let script = "cd /build; p=d/d/d/d/d/d/d/d/d/d; p=$p/$p/$p/$p/$p; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do
            BB mkdir -p $p; cd $p; done
        BB mkdir -p /build/locked/x $out/l; BB chmod 0 /build/locked; echo x > $out-stray";
    let Some((firn, job)) = job(script).await else {
        return;
    };
    firn.run(job).await.unwrap();
    assert!(firn.is_tidy());
}

#[tokio::test]
async fn cancelled() {
    let Some((firn, job)) = job("echo started; BB sleep 600").await else {
        return;
    };
    let (log, mut chunks) = mpsc::channel(1);
    let cancel = CancellationToken::new();
    let started = async {
        chunks.recv().await.unwrap();
        cancel.cancel();
    };
    let (outcome, ()) = tokio::join!(firn.builder.run(job, log, cancel.clone()), started);
    assert_eq!(outcome.result.unwrap_err(), RunFailure::Cancelled);
    assert!(firn.is_tidy());
}

#[tokio::test]
async fn cancelled_while_nobody_reads_the_log() {
    let Some((firn, job)) = job("while true; do echo 0123456789012345678901234567890123456789; done").await
    else {
        return;
    };
    let (log, mut chunks) = mpsc::channel(1);
    let cancel = CancellationToken::new();
    let started = async {
        chunks.recv().await.unwrap();
        cancel.cancel();
    };
    let (outcome, ()) = tokio::join!(firn.builder.run(job, log, cancel.clone()), started);
    assert_eq!(outcome.result.unwrap_err(), RunFailure::Cancelled);
    assert!(firn.is_tidy());
}

#[tokio::test]
async fn a_dropped_future_ends_the_build() {
    let Some((firn, job)) = job("echo started; BB sleep 600").await else {
        return;
    };
    let (log, mut chunks) = mpsc::channel(1);
    tokio::select! {
        outcome = firn.builder.run(job, log, CancellationToken::new()) => panic!("{outcome:?}"),
        _ = chunks.recv() => {}
    }
    while !firn.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn leftovers_are_swept() {
    let Some((firn, job)) = job("echo hello > $out").await else {
        return;
    };
    let left = firn.scratch().join("0123456789abcdef0123456789abcdef/build/x");
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(firn.scratch().join("other"), "not a build").unwrap();
    assert_eq!(firn.builder.sweep().unwrap(), 1);
    std::fs::remove_file(firn.scratch().join("other")).unwrap();
    assert!(firn.is_tidy());
    assert_eq!(firn.run(job).await.unwrap().len(), 1);
}

#[tokio::test]
async fn several_at_a_time() {
    let Some((firn, one)) = job("BB sleep 0.2; echo one $bb > $out").await else {
        return;
    };
    let jobs = [
        one,
        firn_job(&firn, "BB sleep 0.2; echo two $out > $out").await,
        firn_job(&firn, "BB id -u; exit 7").await,
    ];
    let [one, two, three] = jobs.map(|job| firn.run(job));
    let (one, two, three) = tokio::join!(one, two, three);
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one["out"].references, [busybox()].into());
    assert_eq!(two["out"].references, [two["out"].path.clone()].into());
    assert_ne!(one["out"].content, two["out"].content);
    assert!(
        matches!(three, Err(RunFailure::Builder(text)) if text.contains("exit code 7") && text.ends_with("> 1000"))
    );
}

#[tokio::test]
async fn no_more_users() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root gives builds users of their own");
        return;
    }
    let Some((firn, job)) = job("echo started; BB sleep 600").await else {
        return;
    };
    let cancel = CancellationToken::new();
    let mut runs = tokio::task::JoinSet::new();
    let (log, mut chunks) = mpsc::channel(1);
    for _ in 0..4 {
        let (builder, log, cancel) = (firn.builder.clone(), log.clone(), cancel.clone());
        let job = firn_job(&firn, "echo started; BB sleep 600").await;
        runs.spawn(async move { builder.run(job, log, cancel).await });
    }
    for _ in 0..4 {
        chunks.recv().await.unwrap();
    }
    assert!(matches!(firn.run(job).await, Err(RunFailure::Infrastructure(_))));
    cancel.cancel();
    runs.join_all().await;
    assert!(firn.is_tidy());
}

#[tokio::test]
async fn what_is_refused_before_it_runs() {
    let Some((firn, job)) = job("").await else { return };
    let refused = async |change: &dyn Fn(&mut Job)| {
        let mut job = job.clone();
        change(&mut job);
        match firn.run(job).await {
            Err(RunFailure::InputRejected(text)) => text,
            other => panic!("{other:?}"),
        }
    };
    let env = |job: &mut Job, name: &str, value: &str| {
        job.drv.env.insert(name.into(), value.into());
    };
    let text = refused(&|job| job.drv.builder = b"builtin:fetchurl".into()).await;
    assert!(
        text.contains("test.drv") && text.contains("fetches from the network"),
        "{text}"
    );
    for (name, value) in [
        ("__noChroot", "1"),
        ("__impure", "1"),
        ("__impureHostDeps", "/usr/lib"),
        ("__json", "["),
    ] {
        refused(&|job| env(job, name, value)).await;
    }
    for graph in [
        "odd",
        "a/b /nix/store/x",
        "g /etc/passwd",
        "g /nix/store/00000000000000000000000000000009-absent",
    ] {
        refused(&|job| env(job, "exportReferencesGraph", graph)).await;
    }
    refused(&|job| env(job, "allowedReferences", "nonsense")).await;
    refused(&|job| env(job, "", "nameless")).await;
    let deferred = refused(&|job| {
        job.drv.outputs.insert("out".into(), DerivationOutput::Deferred);
    });
    assert!(deferred.await.contains("depend on inputs that are not resolved"));
    assert!(firn.is_tidy());
}

/// The rest of the tests of a user who is not root, in a process of that user.
#[tokio::test]
async fn an_ordinary_user_can_build() {
    const INNER: &str = "FIRN_BUILDER_TEST_DIR";
    if let Some(dir) = std::env::var_os(INNER) {
        let firn = Firn::in_dir(tempfile::tempdir_in(dir).unwrap());
        let job = firn_job(
            &firn,
            "BB mkdir $out; BB id -u > $out/id; BB mkdir $out/l; BB chmod 0 $out/l; BB mkdir l; BB chmod 0 l",
        );
        let built = firn.run(job.await).await.unwrap();
        let tree = firn.tree(&built["out"]);
        assert_eq!(std::fs::read_to_string(tree.join("id")).unwrap(), "1000\n");
        assert!(firn.is_tidy());
        println!("built by an ordinary user");
        return;
    }
    if !rustix::process::geteuid().is_root() || Command::new("setpriv").arg("--version").output().is_err() {
        println!("skipped: not root, so every other test is this one; or no setpriv");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(dir.path(), Some(12345), Some(12345)).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=12345", "--regid=12345", "--clear-groups"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "lives::an_ordinary_user_can_build", "--nocapture"])
        .env(INNER, dir.path())
        .env("TMPDIR", dir.path())
        .output()
        .unwrap();
    let said = output.stdout.escape_ascii().to_string();
    assert!(
        said.contains("built by an ordinary user"),
        "{said}\n{}",
        output.stderr.escape_ascii()
    );
}

/// Groups that can limit memory and processes, or why the test cannot be made.
fn limited(firn: &Firn) -> bool {
    let lacking = firn.builder.unlimited();
    if lacking.is_empty() {
        return true;
    }
    println!("skipped: builds cannot be limited here: {}", lacking.join(", "));
    false
}

#[tokio::test]
async fn who_takes_too_much_memory_is_stopped() {
    let Some((firn, mut job)) =
        job("BB dd if=/dev/zero of=/dev/shm/x bs=1M count=200; echo made do > $out").await
    else {
        return;
    };
    if !limited(&firn) {
        return;
    }
    job.limits.memory_bytes = Some(64 << 20);
    let (failure, report) = firn.report(job).await;
    assert!(
        matches!(&failure, Err(RunFailure::Exhausted(text)) if text.contains("ran out of memory")),
        "{failure:?}"
    );
    assert!(report.short_of_memory);
    assert!(
        report.memory_peak.is_some_and(|peak| peak > 32 << 20),
        "{report:?}"
    );
    assert!(firn.is_tidy());
}

#[tokio::test]
async fn who_starts_too_many_processes_is_refused_more() {
    let Some((firn, mut job)) =
        job("i=0; while [ $i -lt 100 ]; do BB sleep 5 & i=$((i+1)); done; wait").await
    else {
        return;
    };
    if !limited(&firn) {
        return;
    }
    job.limits.processes = Some(20);
    let (failure, _) = firn.report(job).await;
    assert!(
        matches!(&failure, Err(RunFailure::Exhausted(text)) if text.contains("more than 20 processes")),
        "{failure:?}"
    );
    assert!(firn.is_tidy());
}

#[tokio::test]
async fn who_fills_the_disk_is_stopped() {
    let Some((firn, mut job)) = job("while true; do echo x >> /build/$RANDOM$RANDOM; BB dd if=/dev/zero of=/build/$RANDOM bs=1M count=1; done 2>/dev/null").await
    else {
        return;
    };
    job.limits.disk_bytes = 30 << 20;
    let (failure, report) = firn.report(job).await;
    assert!(
        matches!(&failure, Err(RunFailure::Exhausted(text)) if text.contains("to disk")),
        "{failure:?}"
    );
    assert!(report.disk_bytes >= 30 << 20, "{report:?}");
    assert!(firn.is_tidy());
}

#[tokio::test]
async fn what_a_build_uses_is_counted() {
    // A child that nobody waits for, too.
    let script = "(i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done) & BB dd if=/dev/zero of=/build/x bs=1M count=5; BB sleep 1; echo > $out";
    let Some((firn, job)) = job(script).await else {
        return;
    };
    if !limited(&firn) {
        return;
    }
    let (built, report) = firn.report(job).await;
    built.unwrap();
    assert!(report.cpu_user_us > 10_000, "{report:?}");
    assert!(report.disk_bytes >= 5 << 20, "{report:?}");
    assert!(
        report.memory_peak.is_some_and(|peak| peak > 1 << 20),
        "{report:?}"
    );
}

/// In a file system of its own a build cannot hide what it writes.
#[tokio::test]
async fn a_file_without_a_name_is_limited_by_an_image() {
    let script =
        "exec 3>/build/x; BB rm /build/x; BB dd if=/dev/zero bs=1M count=100 >&3 2>/dev/null; echo > $out";
    let Some((firn, mut job)) = job(script).await else {
        return;
    };
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let firn = firn.changed(|config| config.disk_images = true);
    job.limits.disk_bytes = 64 << 20;
    job.limits.disk_entries = 1000;
    let (failure, _) = firn.report(job.clone()).await;
    if let Err(RunFailure::Infrastructure(why)) = &failure {
        println!("skipped: no file systems in images here: {why}");
        return;
    }
    assert!(
        matches!(&failure, Err(RunFailure::Builder(_) | RunFailure::Exhausted(_))),
        "{failure:?}"
    );
    job.limits.disk_bytes = 256 << 20;
    let (built, report) = firn.report(job).await;
    built.unwrap();
    assert!(
        report.disk_bytes < 64 << 20,
        "what has no name is gone with its builder: {report:?}"
    );
    let others = || {
        let mut left = std::fs::read_dir(firn.scratch())
            .unwrap()
            .map(|e| e.unwrap().file_name());
        left.any(|name| !name.to_str().unwrap().starts_with("empty-"))
    };
    while others() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(firn.scratch().to_str().unwrap()));
}

/// What a killed service leaves running is in groups named after its directory.
#[test]
fn the_next_start_ends_what_runs_in_stale_groups() {
    let firn = Firn::new();
    if !limited(&firn) {
        return;
    }
    let groups = Groups::find(&firn.scratch().canonicalize().unwrap());
    let group = groups
        .create(firn_core::BuildId([7; 16]), &GroupLimits::default())
        .unwrap();
    let mut left = Command::new("sleep").arg("1000").spawn().unwrap();
    for dir in group.dirs() {
        std::fs::write(dir.join("cgroup.procs"), left.id().to_string()).unwrap();
    }
    let unfinished = firn.scratch().join("00000000000000000000000000000007.image");
    std::fs::write(&unfinished, "").unwrap();
    firn.builder.sweep().unwrap();
    assert!(!unfinished.exists());
    let status = left.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    assert!(group.dirs().iter().all(|dir| !dir.exists()));
}

/// Removing it takes seconds; whoever comes next gets the place and the user meanwhile.
#[tokio::test]
async fn what_is_thrown_away_is_thrown_away_beside() {
    let script = "p=d; for i in 1 2 3 4 5 6 7 8 9; do p=$p/d; done; p=$p/$p/$p/$p/$p; p=$p/$p/$p/$p
        for t in 1 2; do cd /build; BB mkdir $t; cd $t
            for i in 1 2 3 4; do BB mkdir -p $p; cd $p; done
        done; cd /build; echo > $out";
    let Some((firn, job)) = job(script).await else {
        return;
    };
    firn.run(job).await.unwrap();
    assert!(!firn.is_empty());
    assert!(firn.is_tidy());
}

#[tokio::test]
async fn a_lost_input_is_named_by_its_store_path() {
    let Some((firn, job)) = job("echo > $out").await else {
        return;
    };
    let input = job.inputs.objects().next().unwrap().clone();
    std::fs::remove_dir_all(firn.tree(&input)).unwrap();
    let failure = firn.run(job).await.unwrap_err();
    let text = match &failure {
        RunFailure::Infrastructure(text) => text,
        other => panic!("{other:?}"),
    };
    assert!(text.contains(&input.path.to_string()), "{text}");
    assert!(!text.contains(firn.dir.path().to_str().unwrap()), "{text}");
    assert!(firn.is_tidy());
}

#[test]
fn two_builders_of_a_host_have_no_user_in_common() {
    let one = Firn::new();
    if one.uids.is_empty() {
        println!("skipped: only root gives builds users of their own");
        return;
    }
    let other = Firn::new();
    assert!(one.uids.end <= other.uids.start || other.uids.end <= one.uids.start);
    let config = firn_builder::Config {
        first_uid: Some(one.uids.start),
        ..super::firn::config(&other.dir, &other.content)
    };
    let refused = firn_builder::LocalBuilder::new(config).unwrap_err().to_string();
    let taken = format!(
        "another service's builds have {} to {}",
        one.uids.start,
        one.uids.end - 1
    );
    assert!(
        refused.contains(&taken) && refused.contains("first-uid = "),
        "{refused}"
    );
}
