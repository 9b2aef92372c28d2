//! Builders that do not end as they should, or do not stay quiet.

use std::fs;
use std::io::Write as _;
use std::time::Duration;

use crate::raw;

fn forever() -> ! {
    loop {
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub(super) fn log_flood() {
    let chunk = [b'x'; 4096];
    loop {
        let _ = std::io::stdout().write_all(&chunk);
    }
}

/// Escape sequences (a title, a clipboard, a reset), bytes that are no text, NUL, line ends of all kinds, a line without end.
pub(super) fn log_odd() {
    let mut log = std::io::stdout().lock();
    for piece in [
        &b"\x1b]0;title\x07\x1b]52;c;eA==\x07\x1bc\x1b[2J"[..],
        b"\0\0\xff\xfe\xc3\x28",
        b"\r\n\n\r\x0b\x0c",
        b"@nix {\"action\":\"start\"}\n",
        &[b'y'; 70_000],
    ] {
        log.write_all(piece).expect("write");
    }
    fs::write(super::out(), "x").expect("write");
}

pub(super) fn silent() {
    forever();
}

/// The builder ends well at once. What it leaves behind holds the log, waits for that, and then writes to the output.
pub(super) fn daemon() {
    let out = super::out();
    fs::write(&out, "first").expect("write");
    let builder = std::process::id() as usize;
    let (ready, tell) = std::io::pipe().expect("pipe");
    raw::fork(|| {
        raw::new_session();
        let _ = raw::fork(|| {
            for signal in 1..=64 {
                raw::ignore(signal);
            }
            let file = fs::OpenOptions::new().append(true).open(&out).expect("open");
            drop(tell);
            while raw::call(libc::SYS_kill, &[builder, 0]).is_ok() {}
            // By an open file and by name.
            loop {
                let _ = (&file).write_all(b" second");
                let _ = fs::write(format!("{out}.new"), "third");
                let _ = fs::rename(format!("{out}.new"), &out);
                println!("still here");
            }
        });
    })
    .expect("fork");
    // It stands when nobody holds the pipe any more.
    drop(std::io::read_to_string(ready));
}

pub(super) fn deaf() {
    for signal in 1..=64 {
        raw::ignore(signal);
    }
    for _ in 0..4 {
        let _ = raw::fork(|| {
            raw::new_session();
            forever();
        });
    }
    loop {
        println!("deaf");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Everything in it open to all, with a program in it that runs as its owner for whoever finds it. The test looks from outside.
pub(super) fn open_build() {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write("/build/secret", crate::SECRET).expect("write");
    for path in ["/build", "/build/secret", "/tmp"] {
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o777));
    }
    loop {
        println!("open");
        std::thread::sleep(Duration::from_millis(100));
    }
}
