//! The child, from the clone to the command: the order of the steps.

use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::io_ext::Named;
use super::spawn::{self, CONNECT, FAILED, GO, MAP, NO_EXEC, READY};
use super::{confine, inherited, root};
use crate::{Network, SandboxSpec, seccomp, sys};

/// Exit status of what panicked, as of other Rust programs.
const PANICKED: u8 = 101;

/// What goes wrong is told in words, with the kind of message it is.
struct Failure(u8, String);

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self(FAILED, text)
    }
}

/// Become the command, or say why not.
pub(super) fn enter(spec: &SandboxSpec, helper: OwnedFd, terminal: OwnedFd) -> ! {
    let outcome = catch_unwind(AssertUnwindSafe(|| steps(spec, &helper, terminal)));
    let Failure(kind, text) = match outcome {
        Ok(Err(failure)) => failure,
        Ok(Ok(never)) => match never {},
        Err(_) => Failure(FAILED, "the child panicked".to_owned()),
    };
    let _ = spawn::tell(&helper, kind, &text);
    sys::exit_now(1)
}

fn steps(spec: &SandboxSpec, helper: &OwnedFd, terminal: OwnedFd) -> Result<Infallible, Failure> {
    confine::die_with_helper(helper)?;
    await_go(helper)?;
    inherited::reset(spec)?;
    rustix::process::umask(Mode::empty());

    root::enter(spec)?;
    rustix::system::sethostname(spec.hostname.as_bytes()).named(|| "sethostname")?;
    rustix::system::setdomainname(spec.domainname.as_bytes()).named(|| "setdomainname")?;
    rustix::process::setsid().named(|| "setsid")?;
    connect(terminal)?;
    // After the control groups were joined, so that they are its root.
    await_go(helper)?;
    sys::unshare(libc::CLONE_NEWCGROUP).named(|| "unshare the control group namespace")?;

    if let Some((uid, _)) = spec.host_ids {
        rustix::thread::set_thread_groups(&[]).named(|| "setgroups")?;
        confine::charge(uid)?;
        sys::unshare(libc::CLONE_NEWUSER | spawn::NETWORK).named(|| "unshare the user namespace")?;
        spawn::tell(helper, MAP, "").named(|| "ask for id maps")?;
        await_go(helper)?;
    }
    sys::loopback_up().named(|| "bring the loopback device up")?;
    if let Network::Relayed(_) = spec.network {
        spawn::tell(helper, CONNECT, "").named(|| "ask for a network")?;
        await_go(helper)?;
    }
    confine::no_user_namespaces();
    confine::few_watchers(spec.host_ids.is_none());
    confine::become_user(spec.uid, spec.gid)?;
    confine::plain_process(spec.i686, spec.randomize)?;
    // Best effort: older kernels cannot. A second wall behind the namespaces.
    let _ = sys::scope();
    rustix::process::chdir(&spec.cwd)
        .named(|| format!("enter the working directory {}", spec.cwd.display()))?;
    confine::die_with_helper(helper)?;
    Err(execute(spec, helper)?)
}

fn await_go(helper: &OwnedFd) -> Result<(), String> {
    match spawn::hear(helper).named(|| "hear from the helper")? {
        Some((GO, _)) => Ok(()),
        _ => Err("the helper is gone".to_owned()),
    }
}

/// Standard input reads nothing; standard output and error are the terminal.
fn connect(terminal: OwnedFd) -> Result<(), String> {
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .named(|| "open /dev/null")?;
    rustix::stdio::dup2_stdin(&null).named(|| "dup2")?;
    rustix::stdio::dup2_stdout(&terminal).named(|| "dup2")?;
    rustix::stdio::dup2_stderr(&terminal).named(|| "dup2")
}

/// Returns only the reason for which there was nothing to execute.
fn execute(spec: &SandboxSpec, helper: &OwnedFd) -> Result<Failure, String> {
    let text = |bytes: &[u8]| CString::new(bytes).named(|| "NUL in a string");
    let program = text(&spec.program)?;
    let argv = spec
        .argv
        .iter()
        .map(|arg| text(arg))
        .collect::<Result<Vec<_>, _>>()?;
    let envp = spec
        .env
        .iter()
        .map(|(name, value)| text(&[name.as_slice(), b"=", value].concat()))
        .collect::<Result<Vec<_>, _>>()?;
    let pointers = |strings: &[CString]| {
        strings
            .iter()
            .map(|string| string.as_ptr())
            .chain([std::ptr::null()])
            .collect::<Vec<_>>()
    };
    let (argv_ptrs, envp_ptrs) = (pointers(&argv), pointers(&envp));
    let filter = seccomp::program();
    spawn::tell(helper, READY, "").named(|| "talk to the helper")?;
    await_go(helper)?;
    if spec.own {
        let Some(own) = super::OWN.get() else {
            return Ok(Failure(
                NO_EXEC,
                "this helper has nothing of its own to run".to_owned(),
            ));
        };
        // SAFETY: this process never returns to who had them: it ends by _exit.
        unsafe { sys::close_from(3) }.named(|| "close_range")?;
        sys::install_filter(&filter).named(|| "install the seccomp filter")?;
        let status = catch_unwind(AssertUnwindSafe(|| own(spec))).unwrap_or(PANICKED);
        sys::exit_now(status.into())
    }
    sys::close_on_exec_from(3).named(|| "close_range")?;
    sys::install_filter(&filter).named(|| "install the seccomp filter")?;
    let error = sys::execve(&program, &argv_ptrs, &envp_ptrs);
    let name = Path::new(OsStr::from_bytes(&spec.program));
    Ok(Failure(NO_EXEC, format!("execute {}: {error}", name.display())))
}
