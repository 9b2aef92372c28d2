//! From rules to classic BPF (linux/filter.h, linux/seccomp.h).

use libc::sock_filter;

use super::{Arch, Rule, numbers};

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const JUMP_EQ: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_SET: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Offsets into struct seccomp_data.
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

const SET_ID: u32 = 0o6000;
/// `O_CREAT` and the bit of `O_TMPFILE` that is not `O_DIRECTORY`; the same on x86 and arm64.
const CREATES: u32 = 0o100 | 0o20_000_000;

/// `RLIMIT_CORE`.
const CORE: u32 = 4;
/// The error number of a call that is not made and still succeeds.
const SUCCESS: i32 = 0;

const FAMILIES: [u32; 4] = [
    libc::AF_UNIX as u32,
    libc::AF_INET as u32,
    libc::AF_INET6 as u32,
    libc::AF_NETLINK as u32,
];

/// `FALLOC_FL_PUNCH_HOLE`.
const PUNCH_HOLE: u32 = 0x2;

/// The same numbers on x86 and arm64: `TIOCSTI`, `TIOCLINUX`, `TIOCSETD`; then `FS_IOC_RESVSP`, `FS_IOC_RESVSP64`, `FS_IOC_ZERO_RANGE`,
/// `XFS_IOC_ALLOCSP`, `XFS_IOC_ALLOCSP64` (linux/falloc.h, fs/xfs), each as a 64-bit and as a 32-bit program says it; and
/// `FS_IOC_FSSETXATTR`, which sets extent sizes.
const REQUESTS: [(u32, i32); 14] = [
    (0x5412, libc::EPERM),
    (0x541c, libc::EPERM),
    (0x5423, libc::EPERM),
    (0x4030_5828, libc::EOPNOTSUPP),
    (0x4030_582a, libc::EOPNOTSUPP),
    (0x4030_5839, libc::EOPNOTSUPP),
    (0x4030_580a, libc::EOPNOTSUPP),
    (0x4030_5824, libc::EOPNOTSUPP),
    (0x402c_5828, libc::EOPNOTSUPP),
    (0x402c_582a, libc::EOPNOTSUPP),
    (0x402c_5839, libc::EOPNOTSUPP),
    (0x402c_580a, libc::EOPNOTSUPP),
    (0x402c_5824, libc::EOPNOTSUPP),
    (0x401c_5820, libc::EOPNOTSUPP),
];

/// The filter for the machine this is compiled for.
pub(crate) fn program() -> Vec<sock_filter> {
    assemble(&numbers::arches())
}

fn assemble(arches: &[Arch]) -> Vec<sock_filter> {
    let blocks: Vec<_> = arches.iter().map(block).collect();
    let mut out = vec![op(LOAD, ARCH)];
    // Per way in: compare, and jump over the rest of this table and the blocks before its own. BPF_JA has a wide offset.
    let table = blocks.len() as u32 * 2 + 1;
    let mut before = 0;
    for (i, (arch, block)) in (0u32..).zip(arches.iter().zip(&blocks)) {
        out.push(branch(JUMP_EQ, arch.audit, 0, 1));
        out.push(op(JUMP, table - (i * 2 + 2) + before));
        before += block.len() as u32;
    }
    out.push(deny(libc::ENOSYS));
    out.extend(blocks.into_iter().flatten());
    out
}

fn block(arch: &Arch) -> Vec<sock_filter> {
    let mut out = vec![op(LOAD, NR), op(AND, arch.mask)];
    for &(number, rule) in &arch.rules {
        let body = body(rule);
        out.push(branch(JUMP_EQ, number, 0, body.len() as u8));
        out.extend(body);
    }
    out.push(op(RETURN, libc::SECCOMP_RET_ALLOW));
    out
}

/// What is done once the number has matched. Always ends in a return. Only the low half of an argument is looked at, because
/// that is all the kernel takes of a mode, of flags, of a family, of a request and of a resource; pointers are the exception.
fn body(rule: Rule) -> Vec<sock_filter> {
    let allow = op(RETURN, libc::SECCOMP_RET_ALLOW);
    match rule {
        Rule::Deny(errno) => vec![deny(errno)],
        Rule::SetIdMode(arg) => {
            vec![
                op(LOAD, low(arg)),
                branch(JUMP_SET, SET_ID, 0, 1),
                deny(libc::EPERM),
                allow,
            ]
        }
        Rule::SetIdOpen { flags, mode } => vec![
            op(LOAD, low(flags)),
            branch(JUMP_SET, CREATES, 0, 3),
            op(LOAD, low(mode)),
            branch(JUMP_SET, SET_ID, 0, 1),
            deny(libc::EPERM),
            allow,
        ],
        Rule::SocketFamily => {
            let mut out = vec![op(LOAD, low(0))];
            for (left, family) in (1..=FAMILIES.len() as u8).rev().zip(FAMILIES) {
                out.push(branch(JUMP_EQ, family, left, 0));
            }
            out.extend([deny(libc::EAFNOSUPPORT), allow]);
            out
        }
        Rule::Ioctl => {
            let mut out = vec![op(LOAD, low(1))];
            for (request, error) in REQUESTS {
                out.extend([branch(JUMP_EQ, request, 0, 1), deny(error)]);
            }
            out.push(allow);
            out
        }
        Rule::TakeSpace(mode) => vec![
            op(LOAD, low(mode)),
            branch(JUMP_SET, PUNCH_HOLE, 1, 0),
            deny(libc::EOPNOTSUPP),
            allow,
        ],
        Rule::CoreLimit => vec![
            op(LOAD, low(0)),
            branch(JUMP_EQ, CORE, 0, 1),
            deny(SUCCESS),
            allow,
        ],
        // (process, resource, new, old): the new limit and where to put the old one are pointers, both halves of which count.
        Rule::CoreLimitOf => vec![
            op(LOAD, low(1)),
            branch(JUMP_EQ, CORE, 0, 10),
            op(LOAD, low(2)),
            branch(JUMP_EQ, 0, 0, 2),
            op(LOAD, high(2)),
            branch(JUMP_EQ, 0, 6, 0),
            op(LOAD, low(3)),
            branch(JUMP_EQ, 0, 0, 3),
            op(LOAD, high(3)),
            branch(JUMP_EQ, 0, 0, 1),
            deny(SUCCESS),
            deny(libc::EPERM),
            allow,
        ],
    }
}

/// Where the low half of an argument is, on a little-endian machine.
fn low(arg: u32) -> u32 {
    ARGS + 8 * arg
}

/// Where the other half is.
fn high(arg: u32) -> u32 {
    low(arg) + 4
}

fn op(code: u16, k: u32) -> sock_filter {
    sock_filter {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}

fn branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn deny(errno: i32) -> sock_filter {
    op(
        RETURN,
        libc::SECCOMP_RET_ERRNO | (errno as u32 & libc::SECCOMP_RET_DATA),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would; `None` is "allowed".
    fn run(arch: u32, nr: u32, args: [u64; 6]) -> Option<i32> {
        let program = program();
        let mut data = Vec::new();
        data.extend(nr.to_le_bytes());
        data.extend(arch.to_le_bytes());
        data.extend(0u64.to_le_bytes());
        args.iter().for_each(|arg| data.extend(arg.to_le_bytes()));
        let (mut a, mut pc) = (0u32, 0usize);
        loop {
            let i = program[pc];
            pc += 1;
            let jump = |yes: bool| usize::from(if yes { i.jt } else { i.jf });
            match i.code {
                LOAD => a = u32::from_le_bytes(data[i.k as usize..][..4].try_into().unwrap()),
                AND => a &= i.k,
                JUMP => pc += i.k as usize,
                JUMP_EQ => pc += jump(a == i.k),
                JUMP_SET => pc += jump(a & i.k != 0),
                RETURN if i.k == libc::SECCOMP_RET_ALLOW => return None,
                RETURN => return Some((i.k & 0xffff) as i32),
                code => panic!("unknown instruction {code}"),
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_three_ways_in_agree() {
        const X64: u32 = 0xc000_003e;
        const I386: u32 = 0x4000_0003;
        const X32: u32 = 0x4000_0000;
        let mode = |index: usize, mode: u64| {
            let mut args = [0; 6];
            args[index] = mode;
            args
        };
        // (x86_64 number, i386 number, index of the mode)
        for (x64, i386, index) in [
            (90, 15, 1),
            (91, 94, 1),
            (268, 306, 2),
            (452, 452, 2),
            (85, 8, 1),
            (133, 14, 1),
            (259, 297, 2),
        ] {
            for (arch, nr) in [(X64, x64), (X64, X32 | x64), (I386, i386)] {
                assert_eq!(
                    run(arch, nr, mode(index, 0o4755)),
                    Some(libc::EPERM),
                    "{arch:x} {nr}"
                );
                assert_eq!(
                    run(arch, nr, mode(index, 0o2755)),
                    Some(libc::EPERM),
                    "{arch:x} {nr}"
                );
                assert_eq!(run(arch, nr, mode(index, 0o1777)), None, "{arch:x} {nr}");
            }
        }
        // open and openat: the mode counts when a file may be made.
        for (arch, nr, flags) in [(X64, 2, 1), (X64, 257, 2), (I386, 5, 1), (I386, 295, 2)] {
            let mut args = mode(flags + 1, 0o4755);
            assert_eq!(run(arch, nr, args), None);
            args[flags] = 0o100;
            assert_eq!(run(arch, nr, args), Some(libc::EPERM));
            args[flags] = 0o20_200_000;
            assert_eq!(run(arch, nr, args), Some(libc::EPERM));
            args[flags + 1] = 0o755;
            assert_eq!(run(arch, nr, args), None);
        }
        for (x64, i386) in (188..=199).zip(226..=237).chain((463..=466).zip(463..=466)) {
            for (arch, nr) in [(X64, x64), (X64, X32 | x64), (I386, i386)] {
                assert_eq!(run(arch, nr, [0; 6]), Some(libc::EOPNOTSUPP), "{arch:x} {nr}");
            }
        }
        for (arch, nr) in [(X64, 41), (X64, X32 | 41), (I386, 359), (X64, 53), (I386, 360)] {
            for family in [1, 2, 10, 16] {
                assert_eq!(run(arch, nr, mode(0, family)), None);
            }
            for family in [0, 17, 38, 40, 44] {
                assert_eq!(run(arch, nr, mode(0, family)), Some(libc::EAFNOSUPPORT));
            }
        }
        assert_eq!(run(I386, 102, [1, 0, 0, 0, 0, 0]), Some(libc::ENOSYS));
        let new = (425..=433)
            .chain([437, 442, 443, 447, 451])
            .chain(457..=461)
            .chain([467, 469, 470]);
        for nr in new {
            for (arch, nr) in [(X64, nr), (X64, X32 | nr), (I386, nr)] {
                assert_eq!(run(arch, nr, [0; 6]), Some(libc::ENOSYS), "{arch:x} {nr}");
            }
        }
        for (x64, i386, error) in [
            (103, 103, libc::EPERM),
            (300, 338, libc::EPERM),
            (136, 62, libc::ENOSYS),
            (179, 131, libc::ENOSYS),
            (206, 245, libc::ENOSYS),
        ] {
            for (arch, nr) in [(X64, x64), (X64, X32 | x64), (I386, i386)] {
                assert_eq!(run(arch, nr, [0; 6]), Some(error), "{arch:x} {nr}");
            }
        }
        for (arch, nr) in [(X64, 16), (X64, X32 | 514), (I386, 54)] {
            for request in [0x5412, 0x541c, 0x5423, 0xffff_ffff_0000_5412] {
                assert_eq!(
                    run(arch, nr, mode(1, request)),
                    Some(libc::EPERM),
                    "{arch:x} {nr}"
                );
            }
            for request in [0x4030_5828, 0x4030_582a, 0x402c_5839, 0x401c_5820] {
                assert_eq!(
                    run(arch, nr, mode(1, request)),
                    Some(libc::EOPNOTSUPP),
                    "{arch:x} {nr}"
                );
            }
            // TCGETS, TIOCGWINSZ, FIONREAD
            for request in [0x5401, 0x5413, 0x541b] {
                assert_eq!(run(arch, nr, mode(1, request)), None, "{arch:x} {nr}");
            }
        }
        // Space may be given back, not taken.
        for (arch, nr) in [(X64, 285), (X64, X32 | 285), (I386, 324)] {
            for taking in [0, 1, 0x10, 0x40] {
                assert_eq!(
                    run(arch, nr, mode(1, taking)),
                    Some(libc::EOPNOTSUPP),
                    "{arch:x} {nr}"
                );
            }
            assert_eq!(run(arch, nr, mode(1, 3)), None, "{arch:x} {nr}");
        }
        for nr in [0, 1, 56, 57, 59, 120, 303, 311, 312, 341, 435, 440, 444] {
            assert_eq!(run(X64, nr, [0; 6]), None);
            assert_eq!(run(I386, nr, [0; 6]), None);
        }
        assert_eq!(run(0xdead, 0, [0; 6]), Some(libc::ENOSYS));
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_limit_on_core_dumps_stays() {
        const X64: u32 = 0xc000_003e;
        const I386: u32 = 0x4000_0003;
        for (arch, set, both) in [
            (X64, 160, 302),
            (X64, 0x4000_0000 | 160, 0x4000_0000 | 302),
            (I386, 75, 340),
        ] {
            assert_eq!(run(arch, set, [4, 1, 0, 0, 0, 0]), Some(0));
            assert_eq!(run(arch, set, [3, 1, 0, 0, 0, 0]), None);
            for (new, old, outcome) in [
                (0, 0, None),
                (0, 0x1000, None),
                (0x1000, 0, Some(0)),
                (0x1_0000_0000, 0, Some(0)),
                (0x1000, 0x1000, Some(libc::EPERM)),
                (0x1000, 0x1_0000_0000, Some(libc::EPERM)),
            ] {
                assert_eq!(
                    run(arch, both, [0, 4, new, old, 0, 0]),
                    outcome,
                    "{new:x} {old:x}"
                );
                assert_eq!(run(arch, both, [0, 7, new, old, 0, 0]), None);
            }
        }
    }
}
