//! The helper executable alone, and what else the tests need a process for.
//!
//! - `sandbox-exec` is the helper;
//! - `sandbox-exec run SPEC.json` runs a specification with itself as the helper;
//! - `sandbox-exec stay` undoes PR_SET_PDEATHSIG and stays. It runs inside;
//! - `sandbox-exec connect` connects to the abstract unix socket named by `$socket` and prints what became of it. It runs inside;
//! - `sandbox-exec calls` tries system calls and prints what became of each. It runs inside.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test program may panic"
)]

use std::io::Write;
use std::process::ExitCode;

use firn_sandbox::{HelperCommand, run, sandbox_exec_main};

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("run") => run_file(&args[2]),
        Some("calls") => calls(),
        Some("connect") => connect(),
        Some("stay") => stay(),
        _ => sandbox_exec_main(),
    }
}

fn run_file(path: &str) -> ExitCode {
    let spec = serde_json::from_slice(&std::fs::read(path).expect("read")).expect("parse");
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let exit = runtime.block_on(async {
        let (log, mut lines) = tokio::sync::mpsc::channel::<bytes::Bytes>(4);
        let print = tokio::spawn(async move {
            while let Some(chunk) = lines.recv().await {
                let _ = std::io::stdout().write_all(&chunk);
            }
        });
        let exit = run(
            &HelperCommand::new("/proc/self/exe"),
            &spec,
            log,
            std::future::pending(),
        )
        .await;
        print.await.expect("print");
        exit
    });
    eprintln!("{exit:?}");
    ExitCode::from(u8::from(exit.is_err()))
}

fn stay() -> ExitCode {
    // SAFETY: takes numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0) };
    std::fs::write("started", "").expect("write");
    loop {
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}

fn connect() -> ExitCode {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixStream};
    let name = std::env::var("socket").expect("a name");
    let address = SocketAddr::from_abstract_name(name).expect("an address");
    match UnixStream::connect_addr(&address) {
        Ok(_) => println!("connected"),
        Err(error) => println!("{}", error.raw_os_error().unwrap_or(0)),
    }
    ExitCode::SUCCESS
}

fn calls() -> ExitCode {
    let show = |name: &str, result: libc::c_long| {
        let error = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        println!("{name} {}", if result < 0 { error } else { 0 });
    };
    let file = c"file".as_ptr();
    // SAFETY: plain system calls of a test program on strings and buffers that live long enough.
    unsafe {
        let create = libc::O_CREAT | libc::O_WRONLY;
        show(
            "open",
            libc::syscall(libc::SYS_openat, libc::AT_FDCWD, file, create, 0o644),
        );
        show(
            "open-setuid",
            libc::syscall(
                libc::SYS_openat,
                libc::AT_FDCWD,
                c"other".as_ptr(),
                create,
                0o4755,
            ),
        );
        show(
            "openat2",
            libc::syscall(libc::SYS_openat2, libc::AT_FDCWD, file, 0, 0),
        );
        show("chmod", libc::chmod(file, 0o755).into());
        show("chmod-setuid", libc::chmod(file, 0o4755).into());
        show(
            "fchmodat2-setgid",
            libc::syscall(452, libc::AT_FDCWD, file, 0o2755, 0),
        );
        show(
            "setxattr",
            libc::setxattr(file, c"user.a".as_ptr(), c"b".as_ptr().cast(), 1, 0).into(),
        );
        show(
            "listxattr",
            libc::listxattr(file, std::ptr::null_mut(), 0) as libc::c_long,
        );
        show(
            "setxattrat",
            libc::syscall(463, libc::AT_FDCWD, file, 0, c"user.a".as_ptr(), 0, 0),
        );
        for (name, family) in [
            ("unix", 1),
            ("inet", 2),
            ("inet6", 10),
            ("netlink", 16),
            ("packet", 17),
            ("vsock", 40),
        ] {
            let kind = if family == 16 {
                libc::SOCK_RAW
            } else {
                libc::SOCK_STREAM
            };
            show(&format!("socket-{name}"), libc::socket(family, kind, 0).into());
        }
        show("io_uring", libc::syscall(425, 1, 0));
        show("keyctl", libc::syscall(libc::SYS_keyctl, 0, -3, 0));
        show("perf", libc::syscall(libc::SYS_perf_event_open, 0, 0, -1, -1, 0));
        show("bpf", libc::syscall(libc::SYS_bpf, 0, 0, 0));
        show(
            "mount",
            libc::mount(
                c"x".as_ptr(),
                c"/tmp".as_ptr(),
                c"tmpfs".as_ptr(),
                0,
                std::ptr::null(),
            )
            .into(),
        );
        show("unshare-user", libc::unshare(libc::CLONE_NEWUSER).into());
        show("kill-all", libc::kill(-1, libc::SIGKILL).into());
        #[cfg(target_arch = "x86_64")]
        {
            let mut result: i64 = 15;
            // chmod("file", 04755) of i386 with a pointer below 4 GiB.
            let low = libc::mmap(
                std::ptr::null_mut(),
                4096,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT,
                -1,
                0,
            );
            std::ptr::copy_nonoverlapping(file.cast::<u8>(), low.cast::<u8>(), 5);
            std::arch::asm!("xchg rbx, {b}", "int 0x80", "xchg rbx, {b}", b = inout(reg) low => _,
                inout("rax") result, in("rcx") 0o4755i64, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
            println!("i386-chmod-setuid {}", -result);
        }
    }
    ExitCode::SUCCESS
}
