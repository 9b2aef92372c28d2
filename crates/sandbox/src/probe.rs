//! Can this machine run sandboxes? For `doctor` commands and for a clear message at the start of a service.
//!
//! Everything is tried, not deduced from version numbers, and in short-lived child processes, so that the caller stays as it is.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::Mode;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

use crate::exec::TUN;
use crate::sys::{self, Cloned};

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// Whether it works.
    pub ok: bool,
    /// Whether sandboxes need it.
    pub required: bool,
    /// What was found, or the error.
    pub detail: String,
    /// What to do about it, when it does not work.
    pub hint: Option<&'static str>,
}

/// A step of a child process. It may only make system calls, because the caller may have threads.
type Step = (&'static str, fn() -> io::Result<()>);

const USER_HINT: &str = "run as root, or allow user namespaces: sysctl kernel.unprivileged_userns_clone=1, \
    user.max_user_namespaces > 0, kernel.apparmor_restrict_unprivileged_userns=0";
const KERNEL_HINT: &str = "the kernel lacks it, or a container runtime forbids it";

/// Try everything a sandbox of this process would need, most basic first.
#[must_use]
pub fn probe() -> Vec<Check> {
    let root = rustix::process::geteuid().is_root();
    let mut checks = vec![Check {
        name: "rights",
        ok: root,
        required: false,
        detail: if root { "root" } else { "an ordinary user" }.to_owned(),
        hint: (!root).then_some(
            "without root all commands run as this one user and are not protected from each other by user id",
        ),
    }];
    checks.push(check(
        "user namespaces",
        true,
        Some(USER_HINT),
        attempt(libc::CLONE_NEWUSER, &[]),
    ));
    for (name, flag) in [
        ("mount namespaces", libc::CLONE_NEWNS),
        ("process id namespaces", libc::CLONE_NEWPID),
        ("network namespaces", libc::CLONE_NEWNET),
        ("ipc namespaces", libc::CLONE_NEWIPC),
        ("uts namespaces", libc::CLONE_NEWUTS),
        ("control group namespaces", libc::CLONE_NEWCGROUP),
    ] {
        checks.push(check(name, true, Some(KERNEL_HINT), attempt(flag | user(), &[])));
    }
    let mounts = attempt(libc::CLONE_NEWNS | libc::CLONE_NEWPID | user(), &MOUNTS);
    checks.push(check(
        "mounts",
        true,
        Some("inside a container nothing may hide parts of /proc, and mount must be allowed"),
        mounts,
    ));
    let loopback: [Step; 1] = [("bring lo up", sys::loopback_up)];
    let loopback = attempt(libc::CLONE_NEWNET | user(), &loopback);
    checks.push(check("loopback device", true, Some(KERNEL_HINT), loopback));
    checks.push(check(
        "seccomp",
        true,
        Some(KERNEL_HINT),
        sys::seccomp_available().map_err(|e| e.to_string()),
    ));
    let terminal = crate::exec::terminal();
    checks.push(check(
        "pseudo-terminals",
        true,
        Some("mount devpts at /dev/pts"),
        terminal,
    ));
    let nested = Path::new("/proc/sys/user/max_user_namespaces").exists();
    checks.push(Check {
        name: "limit of nested user namespaces",
        ok: nested,
        required: false,
        detail: if nested { "can be set to none" } else { "absent" }.to_owned(),
        hint: (!nested).then_some("commands can make user namespaces of their own"),
    });
    let abi = sys::landlock_abi();
    checks.push(Check {
        name: "Landlock scopes",
        ok: abi >= 6,
        required: false,
        detail: format!("ABI {abi}"),
        hint: (abi < 6).then_some("a second wall for signals and abstract unix sockets (Linux 6.12)"),
    });
    let relayed = can_relay();
    checks.push(Check {
        name: "relayed network",
        ok: relayed.is_ok(),
        required: false,
        detail: match &relayed {
            Ok(()) => format!("{TUN} can be opened"),
            Err(why) => why.clone(),
        },
        hint: relayed.is_err().then_some(
            "without it fixed-output builds have no network: load the module tun, and make the device readable and writable for who runs this (chmod 666)",
        ),
    });
    checks.push(core_dumps(
        &std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default(),
    ));
    checks.push(control_groups(Path::new("/sys/fs/cgroup")));
    checks
}

/// Whether commands can have a relayed network ([`Network::Relayed`](crate::Network::Relayed)), or why not.
///
/// # Errors
/// The reason.
pub fn can_relay() -> Result<(), String> {
    std::fs::File::options()
        .read(true)
        .write(true)
        .open(TUN)
        .map(drop)
        .map_err(|error| format!("{TUN}: {error}"))
}

/// What is tried in a mount namespace, on a tmpfs over `/tmp` that nobody else sees.
const MOUNTS: [Step; 6] = [
    ("make mounts private", || {
        Ok(mount_change(
            "/",
            MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
        )?)
    }),
    ("mount a tmpfs", || {
        Ok(mount(c"none", c"/tmp", c"tmpfs", MountFlags::empty(), None)?)
    }),
    ("mount_setattr (Linux 5.12)", || {
        let tmp = rustix::fs::open(c"/tmp", rustix::fs::OFlags::PATH, Mode::empty())?;
        sys::mount_setattr(std::os::fd::AsFd::as_fd(&tmp), c"", true, sys::ATTR_NOSUID, 0)
    }),
    ("mount a devpts", || {
        rustix::fs::mkdir(c"/tmp/a", Mode::RWXU)?;
        Ok(mount(
            c"none",
            c"/tmp/a",
            c"devpts",
            MountFlags::empty(),
            c"newinstance",
        )?)
    }),
    ("mount a new /proc", || {
        rustix::fs::mkdir(c"/tmp/b", Mode::RWXU)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        Ok(mount(c"proc", c"/tmp/b", c"proc", flags, None)?)
    }),
    ("pivot_root", || {
        rustix::process::chdir(c"/tmp")?;
        Ok(rustix::process::pivot_root(c".", c".")?)
    }),
];

fn check(
    name: &'static str,
    required: bool,
    hint: Option<&'static str>,
    outcome: Result<(), String>,
) -> Check {
    let ok = outcome.is_ok();
    Check {
        name,
        ok,
        required,
        detail: outcome.err().unwrap_or_else(|| "works".to_owned()),
        hint: hint.filter(|_| !ok),
    }
}

/// An ordinary user needs a user namespace for all the others.
fn user() -> libc::c_int {
    if rustix::process::geteuid().is_root() {
        0
    } else {
        libc::CLONE_NEWUSER
    }
}

/// Carry the steps out in a child with these namespaces.
fn attempt(flags: libc::c_int, steps: &[Step]) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    let (go, tell_go) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| text(e.into()))?;
    let (report, tell) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| text(e.into()))?;
    // SAFETY: the child makes nothing but system calls until `exit_now`; the steps are written so.
    match unsafe { sys::clone(flags) }.map_err(text)? {
        Cloned::Child => {
            let _ = rustix::io::read(&go, &mut [0; 1]);
            for (number, (_, step)) in (0u8..).zip(steps) {
                if let Err(error) = step() {
                    let [a, b, ..] = error.raw_os_error().unwrap_or(0).to_le_bytes();
                    let _ = rustix::io::write(&tell, &[number, a, b]);
                    break;
                }
            }
            sys::exit_now(0);
        }
        Cloned::Parent { pid, .. } => {
            let mapped = if flags & libc::CLONE_NEWUSER == 0 {
                Ok(())
            } else {
                map(pid.as_raw_nonzero().get())
            };
            let _ = rustix::io::write(&tell_go, b"g");
            drop((tell_go, tell));
            let said = hear(report);
            sys::wait(pid).map_err(text)?;
            mapped.map_err(|error| format!("write id maps: {error}"))?;
            let Some([number, a, b]) = said else { return Ok(()) };
            let name = steps.get(usize::from(number)).map_or("", |(name, _)| name);
            let error = io::Error::from_raw_os_error(i32::from(u16::from_le_bytes([a, b])));
            Err(format!("{name}: {error}"))
        }
    }
}

fn hear(report: OwnedFd) -> Option<[u8; 3]> {
    let mut said = [0; 3];
    std::fs::File::from(report)
        .read_exact(&mut said)
        .ok()
        .map(|()| said)
}

fn map(child: i32) -> io::Result<()> {
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    std::fs::write(format!("/proc/{child}/setgroups"), "deny")?;
    std::fs::write(format!("/proc/{child}/uid_map"), format!("1000 {uid} 1"))?;
    std::fs::write(format!("/proc/{child}/gid_map"), format!("100 {gid} 1"))
}

/// Files and programs get no core dump at the limit that commands have. A service behind a socket (Linux 6.16) gets all of them.
fn core_dumps(pattern: &str) -> Check {
    let socket = pattern.starts_with('@');
    Check {
        name: "core dumps",
        ok: !socket,
        required: false,
        detail: if socket {
            format!("go to {}", pattern.trim())
        } else {
            "none".to_owned()
        },
        hint: socket.then_some(
            "a service of the host reads what commands leave in their memory; set kernel.core_pattern to a file or a program",
        ),
    }
}

fn control_groups(at: &Path) -> Check {
    let pure = at.join("cgroup.controllers").exists();
    let hybrid = at.join("unified/cgroup.controllers").exists();
    let old = at.join("memory").exists();
    Check {
        name: "control groups",
        ok: pure || hybrid || old,
        required: false,
        detail: match (pure, hybrid, old) {
            (true, ..) => "version 2",
            (_, true, _) => "hybrid (versions 1 and 2)",
            (.., true) => "version 1",
            _ => "none found in /sys/fs/cgroup",
        }
        .to_owned(),
        hint: (!pure && !hybrid && !old)
            .then_some("memory and process limits need a mounted control group file system"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_a_hint_and_nothing_stays_behind() {
        let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let before = mounts();
        let checks = probe();
        for check in &checks {
            println!(
                "{} {}: {} {}",
                check.ok,
                check.name,
                check.detail,
                check.hint.unwrap_or_default()
            );
            assert_eq!(check.ok, check.hint.is_none(), "{check:?}");
        }
        assert_eq!(before, mounts());
    }

    #[test]
    fn a_service_for_core_dumps_is_noticed() {
        assert!(core_dumps("core").ok && core_dumps("|/usr/lib/dump %p").ok);
        assert!(!core_dumps("@/run/dump.socket").ok);
    }

    #[test]
    fn a_step_that_fails_is_named() {
        let steps: [Step; 2] = [
            ("first", || Ok(())),
            ("second", || Err(io::Error::from_raw_os_error(libc::EBUSY))),
        ];
        let error = attempt(0, &steps).unwrap_err();
        assert!(error.starts_with("second: ") && error.contains("busy"), "{error}");
    }
}
