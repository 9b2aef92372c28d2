//! What the command may not do.

use std::collections::BTreeMap;

use super::fixture::Fixture;

async fn denied(mut it: Fixture) {
    it.example("calls");
    let (exit, log) = it.run().await;
    assert!(exit.success(), "{exit:?}\n{log}");
    let seen: BTreeMap<&str, i32> = log
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, errno)| (name, errno.parse().unwrap()))
        .collect();
    let mut expected = vec![
        ("open", 0),
        ("open-setuid", libc::EPERM),
        ("openat2", libc::ENOSYS),
        ("chmod", 0),
        ("chmod-setuid", libc::EPERM),
        ("fchmodat2-setgid", libc::EPERM),
        ("setxattr", libc::ENOTSUP),
        ("listxattr", libc::ENOTSUP),
        ("setxattrat", libc::ENOTSUP),
        ("socket-unix", 0),
        ("socket-inet", 0),
        ("socket-inet6", 0),
        ("socket-netlink", 0),
        ("socket-packet", libc::EAFNOSUPPORT),
        ("socket-vsock", libc::EAFNOSUPPORT),
        ("io_uring", libc::ENOSYS),
        ("keyctl", libc::ENOSYS),
        ("perf", libc::EPERM),
        ("bpf", libc::EPERM),
        ("mount", libc::EPERM),
        ("unshare-user", libc::ENOSPC),
        ("kill-all", libc::ESRCH),
    ];
    if cfg!(target_arch = "x86_64") {
        expected.push(("i386-chmod-setuid", libc::EPERM));
    }
    let expected: BTreeMap<_, _> = expected.into_iter().collect();
    assert_eq!(seen, expected, "\n{log}");
}

#[tokio::test]
async fn system_calls_that_leave_marks_or_leak_are_denied() {
    let Some(it) = Fixture::new() else { return };
    denied(it).await;
}

#[tokio::test]
async fn the_same_for_an_ordinary_user() {
    let Some(it) = Fixture::ordinary_user() else {
        return;
    };
    denied(it).await;
}
