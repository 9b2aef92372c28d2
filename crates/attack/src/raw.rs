//! System calls by number, through every door of the machine.

use std::ffi::CString;

/// Make a system call. Arguments that are addresses must be of memory that lives as long as the call; this is a program of tests, and the
/// process that makes the call is thrown away afterwards.
pub(crate) fn call(number: libc::c_long, args: &[usize]) -> Result<usize, i32> {
    let arg = |at: usize| args.get(at).copied().unwrap_or(0);
    // SAFETY: see above.
    let result = unsafe { libc::syscall(number, arg(0), arg(1), arg(2), arg(3), arg(4), arg(5)) };
    if result < 0 {
        Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    } else {
        Ok(result as usize)
    }
}

/// The same through the door for programs of x86 with 64-bit registers and 32-bit addresses.
#[cfg(target_arch = "x86_64")]
pub(crate) fn call_x32(number: libc::c_long, args: &[usize]) -> Result<usize, i32> {
    call(0x4000_0000 | number, args)
}

/// The same through the door for 32-bit programs. Addresses must be below 4 GiB, see [`low`].
#[cfg(target_arch = "x86_64")]
pub(crate) fn call_i386(number: u32, args: &[u32]) -> Result<usize, i32> {
    let arg = |at: usize| u64::from(args.get(at).copied().unwrap_or(0));
    let mut result = u64::from(number);
    // SAFETY: `int 0x80` makes a system call with the arguments in these registers and changes no others; rbx is the compiler's and
    // is put back. Addresses are the caller's business, see `call`.
    unsafe {
        std::arch::asm!(
            "xchg rbx, {b}", "int 0x80", "xchg rbx, {b}",
            b = inout(reg) arg(0) => _,
            inout("rax") result,
            in("rcx") arg(1), in("rdx") arg(2), in("rsi") arg(3), in("rdi") arg(4),
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    let result = result as u32 as i32;
    if result < 0 {
        Err(-result)
    } else {
        Ok(result as usize)
    }
}

/// A copy of some bytes below 4 GiB, forever.
#[cfg(target_arch = "x86_64")]
pub(crate) fn low(bytes: &[u8]) -> u32 {
    // SAFETY: asks for fresh memory and, if there is some, copies bytes that fit in.
    unsafe {
        let at = libc::mmap(
            std::ptr::null_mut(),
            bytes.len().next_multiple_of(4096),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT,
            -1,
            0,
        );
        assert!(at != libc::MAP_FAILED, "no memory below 4 GiB");
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), at.cast(), bytes.len());
        at as usize as u32
    }
}

/// A string for the kernel, forever.
pub(crate) fn text(of: &str) -> usize {
    CString::new(of).expect("no NUL").into_raw() as usize
}

/// The address of something that stays where it is.
pub(crate) fn at<T>(of: &T) -> usize {
    std::ptr::from_ref(of) as usize
}

/// Fork. The child does what it is told and ends.
pub(crate) fn fork(child: impl FnOnce()) -> Result<i32, i32> {
    // SAFETY: this program has one thread.
    match unsafe { libc::fork() } {
        -1 => Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
        0 => {
            child();
            exit(0)
        }
        pid => Ok(pid),
    }
}

/// End at once.
pub(crate) fn exit(status: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(status) }
}

/// Wait for a child to end; its status.
pub(crate) fn wait(pid: i32) -> i32 {
    let mut status = 0;
    // SAFETY: the address is of a live local.
    unsafe { libc::waitpid(pid, &raw mut status, 0) };
    status
}

/// Whether a child has been killed already.
pub(crate) fn is_killed(pid: i32) -> bool {
    let mut status = 0;
    // SAFETY: the address is of a live local.
    let ended = unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) };
    ended == pid && libc::WIFSIGNALED(status)
}

/// Nobody reads any more what this process writes.
pub(crate) fn mute() {
    let null = call(libc::SYS_openat, &[0, text("/dev/null"), libc::O_WRONLY as usize]).expect("/dev/null");
    for output in [1, 2] {
        call(libc::SYS_dup3, &[null, output, 0]).expect("dup");
    }
}

/// Let a signal have no effect.
pub(crate) fn ignore(signal: i32) {
    // SAFETY: no handler of ours is installed.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// A new session, away from the terminal.
pub(crate) fn new_session() {
    let _ = call(libc::SYS_setsid, &[]);
}
