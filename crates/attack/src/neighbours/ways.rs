//! Ways to find another build, one line each as of the threats.

use std::fs;
use std::io::Read as _;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use super::life::{lock, shared_memory};
use super::sought;
use crate::{Outcome, host, raw};

type Way = (&'static str, fn() -> Outcome);

/// All of them.
pub(super) const WAYS: [Way; 17] = [
    ("files", files),
    ("abstract-socket", || {
        Outcome::of_io(UnixStream::connect_addr(&sought().abstract_name()))
    }),
    ("socket-in-build", || {
        Outcome::of_io(UnixStream::connect(&sought().sockets()[0]))
    }),
    ("socket-in-tmp", || {
        Outcome::of_io(UnixStream::connect(&sought().sockets()[1]))
    }),
    ("port", || {
        Outcome::of_io(TcpStream::connect(("127.0.0.1", sought().port)))
    }),
    ("shared-memory", || Outcome::of(shared_memory(sought(), false))),
    ("message-queue", message_queue),
    ("keys", || {
        Outcome::of(raw::call(
            libc::SYS_keyctl,
            &[
                10,
                -4isize as usize,
                raw::text("user"),
                raw::text(&sought().name),
                0,
            ],
        ))
    }),
    ("processes", processes),
    ("signals", signals),
    ("trace", || {
        first(|pid| raw::call(libc::SYS_ptrace, &[libc::PTRACE_SEIZE as usize, pid, 0, 0]))
    }),
    ("priorities", || {
        first(|pid| raw::call(libc::SYS_setpriority, &[0, pid, 19]))
    }),
    ("host-directories", host_directories),
    ("proc-text", proc_text),
    ("input-kind", input_kind),
    ("lock-input", lock_input),
    ("watch-input", watch_input),
];

/// Look for the victim everywhere. One line per way; all of it to `$out`, too.
pub(crate) fn seeker() -> ExitCode {
    let mut report = String::new();
    for (name, way) in WAYS {
        let line = format!("{name} {}\n", crate::isolate::run(way));
        print!("{line}");
        report.push_str(&line);
    }
    match std::env::var_os("out").map(|out| fs::write(out, report)) {
        Some(Err(_)) => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

fn files() -> Outcome {
    let found: Vec<_> = sought()
        .places()
        .into_iter()
        .filter(|path| fs::metadata(path).is_ok())
        .collect();
    if found.is_empty() {
        Outcome::Absent
    } else {
        Outcome::Leaked(found.join(","))
    }
}

fn message_queue() -> Outcome {
    Outcome::of(raw::call(
        libc::SYS_mq_open,
        &[raw::text(&sought().name), libc::O_RDWR as usize, 0, 0],
    ))
}

/// Every number that a process can have here, but the builder's and this one's.
fn first(mut try_one: impl FnMut(usize) -> Result<usize, i32>) -> Outcome {
    let own = std::process::id() as usize;
    let mut last = libc::ESRCH;
    for pid in (2..70_000).filter(|pid| *pid != own) {
        match try_one(pid) {
            Ok(_) => return Outcome::Reached,
            Err(errno) => last = errno,
        }
    }
    Outcome::Denied(last)
}

fn signals() -> Outcome {
    let _ = raw::call(libc::SYS_kill, &[usize::MAX, libc::SIGUSR1 as usize]);
    first(|pid| raw::call(libc::SYS_kill, &[pid, libc::SIGUSR1 as usize]))
}

/// A process whose command line is the victim's.
fn processes() -> Outcome {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let found = entries.filter(|entry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|&byte| byte == 0).collect();
        let sought = &sought().command;
        let is = |at: &[&[u8]]| {
            at.iter()
                .eq(sought.iter().map(String::as_bytes).collect::<Vec<_>>().iter())
        };
        words.windows(sought.len()).any(is)
    });
    if found.count() == 0 {
        Outcome::Hidden
    } else {
        Outcome::Leaked("the victim's process".to_owned())
    }
}

/// Where this build's own directories are on the host, and so where the others' must be.
fn host_directories() -> Outcome {
    let dir = host::var(host::DIR);
    for path in [
        format!("/proc/self/root{dir}"),
        dir.clone(),
        format!("/../..{dir}"),
        format!("/proc/1/cwd/../..{dir}"),
    ] {
        if fs::read_dir(path).is_ok() {
            return Outcome::Reached;
        }
    }
    Outcome::Absent
}

/// The secret, or the names, in any text of /proc that is not a process's.
fn proc_text() -> Outcome {
    let mut dirs = vec![std::path::PathBuf::from("/proc")];
    let mut found = Vec::new();
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.as_encoded_bytes();
            let (path, kind) = (entry.path(), entry.file_type());
            let process = dir.as_os_str() == "/proc" && name.iter().all(u8::is_ascii_digit);
            if kind.as_ref().is_ok_and(fs::FileType::is_dir) && !process {
                dirs.push(path);
            } else if kind.is_ok_and(|kind| kind.is_file()) && name != b"kmsg" && name != b"kcore" {
                let mut text = Vec::new();
                let read = fs::File::open(&path).map(|file| file.take(1 << 20).read_to_end(&mut text));
                let has = |word: &str| text.windows(word.len()).any(|window| window == word.as_bytes());
                if read.is_ok() && (has(&sought().secret) || has(&sought().name)) {
                    found.push(path.as_os_str().as_encoded_bytes().escape_ascii().to_string());
                }
            }
        }
    }
    if found.is_empty() {
        Outcome::Hidden
    } else {
        Outcome::Leaked(found.join(","))
    }
}

/// Take a lock that the victim holds on its own input of the same content.
fn lock_input() -> Outcome {
    let file = fs::File::open(sought().locked()).expect("the input");
    Outcome::of(lock(&file))
}

/// Whether inputs are files of an overlay of this build's own, or the stored files themselves.
fn input_kind() -> Outcome {
    const OVERLAY: u64 = 0x794c_7630;
    let buffer = [0u64; 32];
    match raw::call(libc::SYS_statfs, &[raw::text(&host::data()), raw::at(&buffer)]) {
        Ok(_) if std::hint::black_box(buffer)[0] == OVERLAY => Outcome::value("overlay"),
        Ok(_) => Outcome::value("stored files"),
        Err(errno) => Outcome::Denied(errno),
    }
}

/// See the victim read its input: this process opens it only before it watches.
fn watch_input() -> Outcome {
    let Ok(group) = raw::call(libc::SYS_inotify_init1, &[libc::IN_NONBLOCK as usize]) else {
        return Outcome::Absent;
    };
    let path = raw::text(&host::data());
    if let Err(errno) = raw::call(
        libc::SYS_inotify_add_watch,
        &[group, path, (libc::IN_OPEN | libc::IN_ACCESS) as usize],
    ) {
        return Outcome::Denied(errno);
    }
    std::thread::sleep(Duration::from_secs(1));
    let buffer = [0u8; 4096];
    match raw::call(libc::SYS_read, &[group, raw::at(&buffer), buffer.len()]) {
        Ok(_) => Outcome::Leaked("when others read the input".to_owned()),
        Err(libc::EAGAIN) => Outcome::Hidden,
        Err(errno) => Outcome::Denied(errno),
    }
}
