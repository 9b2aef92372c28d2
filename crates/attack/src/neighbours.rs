//! Two builds of two accounts at once: one lives and has secrets, the other looks for it.
//!
//! Both are this program. They agree on names beforehand, as two accounts in league would.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::{Outcome, host, raw};

/// What the victim has in its files, memory and variables, and nobody else may have.
pub const SECRET: &str = "the-victims-secret";
/// The victim's line when everything stands.
pub const VICTIM_READY: &str = "victim ready";
/// The victim's line when all is as it made it. Once for each round.
pub const VICTIM_WELL: &str = "victim well";
/// How the victim's line begins when something was changed.
pub const VICTIM_DISTURBED: &str = "victim disturbed";

/// The greedy one's line when it has everything.
pub const GREEDY_READY: &str = "greedy ready";

const NAME: &str = "firn-attack-neighbour";
const PORT: u16 = 40_407;
const KEY: usize = 0x6669_726e;

static SIGNALLED: AtomicBool = AtomicBool::new(false);

extern "C" fn signalled(_: i32) {
    SIGNALLED.store(true, Ordering::Relaxed);
}

fn places() -> [String; 3] {
    ["/build", "/tmp", "/dev/shm"].map(|dir| format!("{dir}/{NAME}"))
}

fn abstract_name() -> SocketAddr {
    SocketAddr::from_abstract_name(NAME).expect("a name")
}

/// Live, and tell each round whether anything was disturbed. Ends when it is killed.
pub(crate) fn victim() -> ExitCode {
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1, libc::SIGINT] {
        // SAFETY: the handler stores to an atomic, which is all that it may do.
        unsafe { libc::signal(signal, signalled as extern "C" fn(i32) as libc::sighandler_t) };
    }
    for path in places() {
        fs::write(path, SECRET).expect("write");
    }
    let in_shared_memory = shared_memory(true).expect("shared memory");
    let _ = raw::call(
        libc::SYS_mq_open,
        &[raw::text(NAME), (libc::O_CREAT | libc::O_RDWR) as usize, 0o666, 0],
    );
    let listeners = [
        UnixListener::bind_addr(&abstract_name()).expect("an abstract name"),
        UnixListener::bind("/build/socket").expect("a name"),
    ];
    let _ = fs::remove_file("/tmp/socket");
    let third = UnixListener::bind("/tmp/socket").expect("a name");
    let port = TcpListener::bind(("0.0.0.0", PORT)).expect("a port");
    port.set_nonblocking(true).expect("nonblocking");
    for listener in listeners.iter().chain([&third]) {
        listener.set_nonblocking(true).expect("nonblocking");
    }
    let input = fs::File::open(host::data()).expect("the input");
    if lock(&input).is_err() {
        println!("{VICTIM_DISTURBED}: the input is locked");
    }
    println!("{VICTIM_READY}");
    loop {
        std::thread::sleep(Duration::from_millis(50));
        // Others have this input, too.
        let _ = fs::read(host::data());
        let mut wrong = Vec::new();
        for path in places() {
            if fs::read_to_string(&path).ok().as_deref() != Some(SECRET) {
                wrong.push(path);
            }
        }
        // SAFETY: the address is that of a page that stays.
        let byte = unsafe { std::ptr::read_volatile(in_shared_memory as *const u8) };
        if byte != SECRET.as_bytes()[0] {
            wrong.push("shared memory".to_owned());
        }
        if SIGNALLED.load(Ordering::Relaxed) {
            wrong.push("a signal".to_owned());
        }
        if listeners
            .iter()
            .chain([&third])
            .any(|listener| listener.accept().is_ok())
            || port.accept().is_ok()
        {
            wrong.push("a connection".to_owned());
        }
        if wrong.is_empty() {
            println!("{VICTIM_WELL}");
        } else {
            println!("{VICTIM_DISTURBED}: {}", wrong.join(", "));
        }
        let _ = std::io::stdout().flush();
    }
}

/// A page of System V shared memory, by the key that both know.
fn shared_memory(make: bool) -> Result<usize, i32> {
    let flags = if make { libc::IPC_CREAT as usize } else { 0 };
    let id = raw::call(libc::SYS_shmget, &[KEY, 4096, flags | 0o666])?;
    let at = raw::call(libc::SYS_shmat, &[id, 0, 0])?;
    if make {
        // SAFETY: the page has just been mapped, and is longer than the secret.
        unsafe { std::ptr::copy_nonoverlapping(SECRET.as_ptr(), at as *mut u8, SECRET.len()) };
    }
    Ok(at)
}

/// Look for the victim everywhere. One line per way, as of the threats; all of it to `$out`, too.
pub(crate) fn seeker() -> ExitCode {
    let ways: [Way; 17] = [
        ("files", files),
        ("abstract-socket", || {
            Outcome::of_io(UnixStream::connect_addr(&abstract_name()))
        }),
        ("socket-in-build", || {
            Outcome::of_io(UnixStream::connect("/build/socket"))
        }),
        ("socket-in-tmp", || {
            Outcome::of_io(UnixStream::connect("/tmp/socket"))
        }),
        ("port", || Outcome::of_io(TcpStream::connect(("127.0.0.1", PORT)))),
        ("shared-memory", || Outcome::of(shared_memory(false))),
        ("message-queue", message_queue),
        ("keys", || {
            Outcome::of(raw::call(
                libc::SYS_keyctl,
                &[10, -4isize as usize, raw::text("user"), raw::text(NAME), 0],
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
    let mut report = String::new();
    for (name, way) in ways {
        let line = format!("{name} {}\n", crate::isolate::run(way));
        print!("{line}");
        report.push_str(&line);
    }
    match std::env::var_os("out").map(|out| fs::write(out, report)) {
        Some(Err(_)) => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

type Way = (&'static str, fn() -> Outcome);
type Counted = (&'static str, fn() -> Result<usize, i32>);

/// What the kernel counts per user, and gives to nobody when one has it all.
const COUNTED: [Counted; 3] = [
    ("inotify", || raw::call(libc::SYS_inotify_init1, &[0])),
    ("message-queues", open_queue),
    ("signals", queue_signal),
];

/// Take all of what is counted, and keep it.
pub(crate) fn greedy() -> ExitCode {
    for (name, take) in COUNTED {
        let count = (0..200_000).take_while(|_| take().is_ok()).count();
        println!("{name}: {count}");
    }
    println!("{GREEDY_READY}");
    loop {
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Take one of each. One line per kind, and all of it to `$out`, too.
pub(crate) fn needy() -> ExitCode {
    let mut report = String::new();
    for (name, take) in COUNTED {
        let line = format!("{name} {}\n", Outcome::of(take()));
        print!("{line}");
        report.push_str(&line);
    }
    match std::env::var_os("out").map(|out| fs::write(out, report)) {
        Some(Err(_)) => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

fn open_queue() -> Result<usize, i32> {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let name = format!("{NAME}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    raw::call(
        libc::SYS_mq_open,
        &[
            raw::text(&name),
            (libc::O_CREAT | libc::O_RDWR) as usize,
            0o600,
            0,
        ],
    )
}

/// A signal to oneself that is never taken.
fn queue_signal() -> Result<usize, i32> {
    const SIGNAL: usize = 40;
    let blocked = 1u64 << (SIGNAL - 1);
    raw::call(
        libc::SYS_rt_sigprocmask,
        &[libc::SIG_BLOCK as usize, raw::at(&blocked), 0, 8],
    )?;
    // Number, error, code SI_QUEUE, and nothing else.
    let mut info = [0u32; 32];
    info[0] = SIGNAL as u32;
    info[2] = -1i32 as u32;
    raw::call(
        libc::SYS_rt_sigqueueinfo,
        &[std::process::id() as usize, SIGNAL, raw::at(&info)],
    )
}

fn files() -> Outcome {
    let found: Vec<_> = places()
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
        &[raw::text(NAME), libc::O_RDWR as usize, 0, 0],
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
        line.split(|&byte| byte == 0).any(|word| word == b"victim")
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
                if read.is_ok() && (has(SECRET) || has(NAME)) {
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
    let file = fs::File::open(host::data()).expect("the input");
    Outcome::of(lock(&file))
}

fn lock(file: &fs::File) -> Result<usize, i32> {
    raw::call(
        libc::SYS_flock,
        &[
            file.as_raw_fd() as usize,
            (libc::LOCK_EX | libc::LOCK_NB) as usize,
        ],
    )
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
