//! Can this machine run virtual machines at the speed of its processor?
//!
//! That `/dev/kvm` can be opened says little: in some clouds it is there, and every instruction of a guest kernel is emulated in
//! software, a thousand times slower, until one comes that the emulator does not know. So a few instructions are run and timed,
//! in a child process that is killed when it takes too long.

use std::io;
use std::time::Duration;

/// Longest time that the test program may take. With hardware support it is about a tenth of a millisecond.
pub const FAST: Duration = Duration::from_millis(5);

/// Why there is no usable KVM.
#[derive(Debug, thiserror::Error)]
pub enum KvmUnusable {
    /// A step failed.
    #[error("{step}: {source}")]
    Step {
        /// What was done.
        step: &'static str,
        /// The error.
        source: io::Error,
    },
    /// It works, but not with hardware support.
    #[error("guest kernel code is emulated: a loop of 20000 rounds took {0:?} instead of less than {FAST:?}")]
    Slow(Duration),
    /// It did not answer.
    #[error("no answer within {0:?}")]
    Stuck(Duration),
    /// This test is written for x86_64.
    #[error("only tried on x86_64")]
    Processor,
}

/// Run a loop in a virtual processor. Gives the time it took.
///
/// # Errors
/// [`KvmUnusable`] with the reason for which nobody should rely on KVM here.
pub fn probe() -> Result<Duration, KvmUnusable> {
    #[cfg(target_arch = "x86_64")]
    {
        x86_64::probe()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        Err(KvmUnusable::Processor)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::io;
    use std::os::fd::{AsFd, OwnedFd};
    use std::ptr;
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{Signal, pidfd_send_signal};

    use super::{FAST, KvmUnusable};
    use crate::sys::{self, Cloned};

    /// Longest wait for the child.
    const PATIENCE: Duration = Duration::from_secs(3);

    // Requests of linux/kvm.h.
    const GET_API_VERSION: libc::c_ulong = 0xae00;
    const CREATE_VM: libc::c_ulong = 0xae01;
    const GET_VCPU_MMAP_SIZE: libc::c_ulong = 0xae04;
    const CREATE_VCPU: libc::c_ulong = 0xae41;
    const SET_USER_MEMORY_REGION: libc::c_ulong = 0x4020_ae46;
    const RUN: libc::c_ulong = 0xae80;
    const GET_SREGS: libc::c_ulong = 0x8138_ae83;
    const SET_SREGS: libc::c_ulong = 0x4138_ae84;
    const SET_REGS: libc::c_ulong = 0x4090_ae82;
    const EXIT_IO: u32 = 2;

    /// Real mode: `mov cx, 20000; again: dec cx; jnz again; out 0x10, al`.
    const PROGRAM: [u8; 8] = [0xb9, 0x20, 0x4e, 0x49, 0x75, 0xfd, 0xe6, 0x10];
    const MEMORY: usize = 0x1000;
    /// Runs, of which the fastest counts: the first one also builds tables.
    const ROUNDS: usize = 3;

    #[repr(C)]
    struct Region {
        slot: u32,
        flags: u32,
        guest_address: u64,
        size: u64,
        address: u64,
    }

    #[repr(C)]
    struct Regs {
        general: [u64; 16],
        rip: u64,
        rflags: u64,
    }

    #[repr(C)]
    struct Segment {
        base: u64,
        limit: u32,
        selector: u16,
        rest: [u8; 10],
    }

    /// `struct kvm_sregs`: cs first, then what is left as it is.
    #[repr(C)]
    struct Sregs {
        cs: Segment,
        rest: [u64; 36],
    }

    const _: () =
        assert!(size_of::<Regs>() == 144 && size_of::<Sregs>() == 312 && size_of::<Segment>() == 24);

    /// The steps, by the number that the child reports.
    const STEPS: [&str; 11] = [
        "open /dev/kvm",
        "KVM_GET_API_VERSION",
        "KVM_CREATE_VM",
        "map memory",
        "KVM_SET_USER_MEMORY_REGION",
        "KVM_CREATE_VCPU",
        "KVM_GET_VCPU_MMAP_SIZE",
        "map the state of the virtual processor",
        "set registers",
        "KVM_RUN",
        "the program's end",
    ];
    const DONE: u8 = u8::MAX;

    pub(super) fn probe() -> Result<Duration, KvmUnusable> {
        let step = |step: &'static str| move |source: io::Error| KvmUnusable::Step { step, source };
        let (report, tell) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|e| step("make a pipe")(e.into()))?;
        // SAFETY: the child makes nothing but system calls until `exit_now`.
        match unsafe { sys::clone(0) }.map_err(step("start a process"))? {
            Cloned::Child => {
                let (number, value) = match attempt() {
                    Ok(nanos) => (DONE, nanos),
                    Err((number, errno)) => (number, errno as u64),
                };
                let mut message = [number; 9];
                if let Some((_, rest)) = message.split_first_mut() {
                    rest.copy_from_slice(&value.to_le_bytes());
                }
                let _ = rustix::io::write(&tell, &message);
                sys::exit_now(0);
            }
            Cloned::Parent { pid, pidfd } => {
                drop(tell);
                let said = hear(&report);
                let _ = pidfd_send_signal(&pidfd, Signal::KILL);
                if said.is_none() && !ended(&pidfd) {
                    return Err(KvmUnusable::Stuck(PATIENCE));
                }
                sys::wait(pid).map_err(step("wait for a process"))?;
                match said {
                    None => Err(KvmUnusable::Stuck(PATIENCE)),
                    Some((DONE, nanos)) => match Duration::from_nanos(nanos) {
                        time if time > FAST => Err(KvmUnusable::Slow(time)),
                        time => Ok(time),
                    },
                    Some((number, errno)) => {
                        let name = STEPS.get(usize::from(number)).copied().unwrap_or("KVM");
                        Err(step(name)(io::Error::from_raw_os_error(
                            i32::try_from(errno).unwrap_or_default(),
                        )))
                    }
                }
            }
        }
    }

    fn hear(report: &OwnedFd) -> Option<(u8, u64)> {
        wait(report.as_fd())?;
        let mut message = [0; 9];
        match rustix::io::read(report, &mut message) {
            Ok(9) => {
                let (number, value) = message.split_first()?;
                Some((*number, u64::from_le_bytes(value.try_into().ok()?)))
            }
            _ => None,
        }
    }

    fn ended(pidfd: &OwnedFd) -> bool {
        wait(pidfd.as_fd()).is_some()
    }

    fn wait(fd: std::os::fd::BorrowedFd<'_>) -> Option<()> {
        let timeout = Timespec {
            tv_sec: PATIENCE.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: 0,
        };
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        matches!(poll(&mut fds, Some(&timeout)), Ok(1..)).then_some(())
    }

    /// Gives nanoseconds, or the number of a step and an error number. Only system calls: the process is a fork.
    fn attempt() -> Result<u64, (u8, i32)> {
        let failed = |step: u8| (step, errno());
        let check = |step: u8, result: libc::c_int| if result < 0 { Err(failed(step)) } else { Ok(result) };
        // SAFETY: plain system calls. Every pointer given to ioctl is to a live value of the layout that linux/kvm.h gives for the
        // request (sizes asserted above); both maps are checked before use, and are as large as what is read from or written to them.
        unsafe {
            let kvm = check(
                0,
                libc::open(c"/dev/kvm".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC),
            )?;
            if check(1, libc::ioctl(kvm, GET_API_VERSION, 0))? != 12 {
                return Err((1, libc::EPROTO));
            }
            let vm = check(2, libc::ioctl(kvm, CREATE_VM, 0))?;
            let memory = map(MEMORY, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1).ok_or_else(|| failed(3))?;
            ptr::copy_nonoverlapping(PROGRAM.as_ptr(), memory, PROGRAM.len());
            let region = Region {
                slot: 0,
                flags: 0,
                guest_address: 0,
                size: MEMORY as u64,
                address: memory as u64,
            };
            check(4, libc::ioctl(vm, SET_USER_MEMORY_REGION, &raw const region))?;
            let cpu = check(5, libc::ioctl(vm, CREATE_VCPU, 0))?;
            let size = check(6, libc::ioctl(kvm, GET_VCPU_MMAP_SIZE, 0))? as usize;
            let state = map(size.max(64), libc::MAP_SHARED, cpu).ok_or_else(|| failed(7))?;
            let mut sregs: Sregs = std::mem::zeroed();
            check(8, libc::ioctl(cpu, GET_SREGS, &raw mut sregs))?;
            (sregs.cs.base, sregs.cs.selector) = (0, 0);
            check(8, libc::ioctl(cpu, SET_SREGS, &raw const sregs))?;
            let mut best = u64::MAX;
            for _ in 0..ROUNDS {
                let regs = Regs {
                    general: [0; 16],
                    rip: 0,
                    rflags: 2,
                };
                check(8, libc::ioctl(cpu, SET_REGS, &raw const regs))?;
                let before = now();
                while libc::ioctl(cpu, RUN, 0) < 0 {
                    if errno() != libc::EINTR {
                        return Err(failed(9));
                    }
                }
                best = best.min(now().saturating_sub(before));
                // `exit_reason` of struct kvm_run.
                if state.add(8).cast::<u32>().read_volatile() != EXIT_IO {
                    return Err((10, libc::EPROTO));
                }
            }
            Ok(best)
        }
    }

    /// # Safety
    /// As mmap(2) of fresh memory: nothing that exists is touched.
    unsafe fn map(size: usize, flags: libc::c_int, fd: libc::c_int) -> Option<*mut u8> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses the address.
        let address = unsafe { libc::mmap(ptr::null_mut(), size, protection, flags, fd, 0) };
        (address != libc::MAP_FAILED).then(|| address.cast())
    }

    fn errno() -> i32 {
        io::Error::last_os_error().raw_os_error().unwrap_or_default()
    }

    fn now() -> u64 {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        (time.tv_sec as u64)
            .wrapping_mul(1_000_000_000)
            .wrapping_add(time.tv_nsec as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    #[test]
    fn there_is_an_answer_soon_and_no_process_stays() {
        let since = Instant::now();
        match super::probe() {
            Ok(time) => println!("usable: {time:?}"),
            Err(why) => println!("not usable: {why}"),
        }
        assert!(since.elapsed() < Duration::from_secs(30));
    }
}
