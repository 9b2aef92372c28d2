//! To have secrets everywhere, and to notice when somebody gets at them.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Marks;
use crate::raw;

static SIGNALLED: AtomicBool = AtomicBool::new(false);

extern "C" fn signalled(_: i32) {
    SIGNALLED.store(true, Ordering::Relaxed);
}

pub(super) struct Life {
    marks: Marks,
    in_shared_memory: usize,
    sockets: [UnixListener; 3],
    port: TcpListener,
    /// Held open for its lock.
    _input: File,
    pub(super) holds_the_lock: bool,
}

impl Life {
    pub(super) fn begin(marks: Marks) -> Self {
        for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1, libc::SIGINT] {
            // SAFETY: the handler stores to an atomic, which is all that it may do.
            unsafe { libc::signal(signal, signalled as extern "C" fn(i32) as libc::sighandler_t) };
        }
        for path in marks.places() {
            fs::write(path, &marks.secret).expect("write");
        }
        let in_shared_memory = shared_memory(&marks, true).expect("shared memory");
        let flags = (libc::O_CREAT | libc::O_RDWR) as usize;
        let _ = raw::call(libc::SYS_mq_open, &[raw::text(&marks.name), flags, 0o666, 0]);
        let [in_build, in_tmp] = marks.sockets();
        let sockets = [
            UnixListener::bind_addr(&marks.abstract_name()).expect("an abstract name"),
            UnixListener::bind(in_build).expect("a name"),
            UnixListener::bind(in_tmp).expect("a name"),
        ];
        let port = TcpListener::bind(("0.0.0.0", marks.port)).expect("a port");
        port.set_nonblocking(true).expect("nonblocking");
        for socket in &sockets {
            socket.set_nonblocking(true).expect("nonblocking");
        }
        let input = File::open(marks.locked()).expect("the input");
        Self {
            holds_the_lock: lock(&input).is_ok(),
            in_shared_memory,
            sockets,
            port,
            _input: input,
            marks,
        }
    }

    /// What is not as it was made, or was noticed.
    pub(super) fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for path in self.marks.places() {
            if fs::read_to_string(&path).ok().as_ref() != Some(&self.marks.secret) {
                wrong.push(path);
            }
        }
        // SAFETY: the address is that of a page that stays.
        let byte = unsafe { std::ptr::read_volatile(self.in_shared_memory as *const u8) };
        if byte != self.marks.secret.as_bytes()[0] {
            wrong.push("shared memory".to_owned());
        }
        if SIGNALLED.load(Ordering::Relaxed) {
            wrong.push("a signal".to_owned());
        }
        if self.sockets.iter().any(|socket| socket.accept().is_ok()) || self.port.accept().is_ok() {
            wrong.push("a connection".to_owned());
        }
        wrong
    }
}

/// A page of System V shared memory, by the key that both know.
pub(super) fn shared_memory(marks: &Marks, make: bool) -> Result<usize, i32> {
    let flags = if make { libc::IPC_CREAT as usize } else { 0 };
    let id = raw::call(libc::SYS_shmget, &[marks.key, 4096, flags | 0o666])?;
    let at = raw::call(libc::SYS_shmat, &[id, 0, 0])?;
    if make {
        let secret = &marks.secret;
        // SAFETY: the page has just been mapped, and is longer than the secret.
        unsafe { std::ptr::copy_nonoverlapping(secret.as_ptr(), at as *mut u8, secret.len()) };
    }
    Ok(at)
}

pub(super) fn lock(file: &File) -> Result<usize, i32> {
    let how = (libc::LOCK_EX | libc::LOCK_NB) as usize;
    raw::call(libc::SYS_flock, &[file.as_raw_fd() as usize, how])
}
