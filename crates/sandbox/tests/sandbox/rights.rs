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

/// Two fixed-output builds of Nix passed each other open files that way (CVE-2024-27297).
#[tokio::test]
async fn abstract_sockets_of_the_host_are_out_of_reach() {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixListener};
    for it in [Fixture::new(), Fixture::ordinary_user_with_tun()] {
        let Some(mut it) = it else { return };
        let name = format!("firn-sandbox-test-{}", it.uid);
        let _listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        it.example("connect");
        it.spec.env.push((b"socket".to_vec(), name.into()));
        for network in super::network::kinds() {
            it.spec.network = network;
            let (exit, log) = it.run().await;
            assert!(exit.success(), "{exit:?}\n{log}");
            assert_eq!(log.trim(), libc::ECONNREFUSED.to_string());
        }
    }
}

#[tokio::test]
async fn the_same_for_an_ordinary_user() {
    let Some(it) = Fixture::ordinary_user() else {
        return;
    };
    denied(it).await;
}
