//! Destructive things, each for a build of its own, and how that build must end.

mod bombs;
mod lives;
mod outputs;

use std::io::Write as _;
use std::process::ExitCode;

use crate::raw;

/// A destructive thing.
#[derive(Debug)]
pub struct Deed {
    /// Its name, the argument of `attack do`.
    pub id: &'static str,
    /// The row of the list of threats.
    pub row: u8,
    /// What it is, in a few words.
    pub what: &'static str,
    /// How the build must end.
    pub ending: Ending,
    /// What the backend must be able to limit; else the build would harm the machine.
    pub needs: Option<Need>,
    /// A hole that is known and still to be closed, in a few words. Not tried meanwhile.
    pub pending: Option<&'static str>,
    act: fn(),
}

/// How a build ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With outputs; the test looks into them.
    Built,
    /// Its outputs are refused, in a text with this in it.
    Refused(&'static str),
    /// The builder fails, by itself or because what it tried has failed.
    Failed,
    /// One or the other: some file systems do not let it be made.
    RefusedOrFailed,
    /// It is stopped for taking, or being silent for, too long.
    TimedOut,
    /// It runs until the test has seen enough.
    Cancelled,
    /// It is stopped for its log.
    LogLimit,
    /// It used up what one build may use of a machine, in a text with this in it.
    Exhausted(&'static str),
}

/// Something that a backend limits, or cannot limit on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Bytes of memory.
    Memory,
    /// Processes at a time.
    Processes,
}

impl Deed {
    pub(crate) fn carry_out(&self) -> ExitCode {
        (self.act)();
        ExitCode::SUCCESS
    }
}

const fn deed(id: &'static str, row: u8, what: &'static str, ending: Ending, act: fn()) -> Deed {
    Deed {
        id,
        row,
        what,
        ending,
        needs: None,
        pending: None,
        act,
    }
}

impl Deed {
    const fn needs(mut self, need: Need) -> Self {
        self.needs = Some(need);
        self
    }

    const fn pending(mut self, on: &'static str) -> Self {
        self.pending = Some(on);
        self
    }
}

const MEMORY: Ending = Ending::Exhausted("ran out of memory");
const DISK: Ending = Ending::Exhausted("to disk");

/// All of them. To switch one on, take its `pending` away.
#[rustfmt::skip]
pub const DEEDS: &[Deed] = &[
    deed("fork-bomb", 5, "processes without end", Ending::Exhausted("processes at a time"), bombs::forks).needs(Need::Processes),
    deed("memory-heap", 6, "memory without end", MEMORY, bombs::heap).needs(Need::Memory),
    deed("memory-children", 6, "a little memory in each of many processes", MEMORY, bombs::children).needs(Need::Memory),
    deed("memory-file", 6, "memory files without end", MEMORY, bombs::memory_file).needs(Need::Memory),
    deed("memory-shared", 6, "/dev/shm without end", MEMORY, bombs::shared).needs(Need::Memory),
    deed("disk-build", 7, "bytes without end in /build", DISK, bombs::disk_build),
    deed("disk-tmp", 7, "bytes without end in /tmp", DISK, bombs::disk_tmp),
    deed("disk-output", 7, "bytes without end in the output", DISK, bombs::disk_output),
    deed("disk-deep", 7, "the same 600 directories deep", DISK, bombs::disk_deep).pending("a count that goes deeper"),
    deed("disk-nameless", 7, "the same in a file that has no name any more", DISK, bombs::disk_nameless).pending("a count of files without names"),
    deed("inodes", 7, "files without end", DISK, bombs::inodes),
    deed("sparse", 7, "an output of 8 TB without bytes", Ending::Refused("larger than"), outputs::sparse),
    deed("log-flood", 8, "log without end", Ending::LogLimit, lives::log_flood),
    deed("log-odd", 8, "a log that would command a terminal", Ending::Built, lives::log_odd),
    deed("silent", 8, "nothing, without end", Ending::TimedOut, lives::silent),
    deed("daemon", 9, "a process that stays, rewrites the output and holds the log", Ending::Built, lives::daemon),
    deed("deaf", 10, "ignores every signal that can be ignored", Ending::TimedOut, lives::deaf),
    deed("whiteout", 16, "a whiteout in the output", Ending::RefusedOrFailed, outputs::whiteout),
    deed("fifo", 16, "a fifo in the output", Ending::Refused("unsupported type"), outputs::fifo),
    deed("socket", 16, "a socket in the output", Ending::Refused("unsupported type"), outputs::socket),
    deed("set-id", 15, "set-id bits in the output by every call", Ending::Built, outputs::set_id),
    deed("writable", 15, "an output that everybody can write", Ending::Refused("suspicious"), outputs::writable),
    deed("symlink", 17, "an output that is a link to a file of the host", Ending::Built, outputs::symlink),
    deed("symlinks-inside", 17, "links to files of the host in an output", Ending::Built, outputs::symlinks_inside),
    deed("symlinks-beside", 17, "links to a file of the host where a collector might write", Ending::Built, outputs::symlinks_beside),
    deed("beside", 17, "other store paths made along with the output", Ending::Built, outputs::beside),
    deed("deep", 18, "directories 300 deep", Ending::Refused("cannot be stored"), outputs::deep),
    deed("deep-scratch", 18, "directories 3,000 deep in /build", Ending::Built, outputs::deep_scratch),
    deed("links-in-scratch", 17, "links to a directory of the host in what is removed afterwards", Ending::Failed, outputs::links_in_scratch),
    deed("names", 18, "names with line ends, without letters, as long as can be", Ending::Built, outputs::names),
    deed("locked", 18, "files and directories that not even their owner can read", Ending::Built, outputs::locked),
    deed("links", 19, "one file under 300 names", Ending::Built, outputs::links),
    deed("crowd", 19, "a directory of 2,000 files", Ending::Built, outputs::crowd),
    deed("link-input", 12, "an input under a name in the output", Ending::RefusedOrFailed, outputs::link_input),
    deed("open-build", 13, "opens its working directory to everybody on the host", Ending::Cancelled, lives::open_build),
];

/// A deed, with the output that has its name, or the usual one.
fn act(id: &str) -> ExitCode {
    let deed = DEEDS.iter().find(|deed| deed.id == id).expect("a deed");
    if let Some(out) = std::env::var_os(id) {
        // SAFETY: this program has one thread.
        unsafe { std::env::set_var("out", out) };
    }
    deed.carry_out()
}

/// The first in the background, where nobody hears it; the second is the builder itself.
pub(crate) fn meanwhile(first: &str, second: &str) -> ExitCode {
    raw::fork(|| {
        raw::mute();
        act(first);
    })
    .expect("fork");
    act(second)
}

/// Several in one build. The last is the builder itself; how each of the others ended is told. The output of one that failed, if there is to be
/// one, is made for it: no output of the build is missing for that.
pub(crate) fn several(ids: &[&str]) -> ExitCode {
    let Some((last, others)) = ids.split_last() else {
        return ExitCode::FAILURE;
    };
    for id in others {
        println!("{id} begins");
        let ended = raw::fork(|| {
            act(id);
            let _ = std::io::stdout().flush();
        })
        .map(raw::wait);
        match ended {
            Ok(status) if libc::WIFSIGNALED(status) => println!("{id}: signal {}", libc::WTERMSIG(status)),
            Ok(status) => println!("{id}: status {}", libc::WEXITSTATUS(status)),
            Err(errno) => println!("{id}: no process, error {errno}"),
        }
        if let Ok(out) = std::env::var(id)
            && std::fs::symlink_metadata(&out).is_err()
        {
            let _ = std::fs::write(out, "it failed");
        }
    }
    println!("{last} begins");
    act(last)
}

/// The output's path.
fn out() -> String {
    std::env::var("out").expect("$out")
}
