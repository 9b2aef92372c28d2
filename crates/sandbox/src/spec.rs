//! What to run, and in which surroundings.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::IpRange;

/// One command and everything it may see. Plain data; it travels to the helper process as JSON.
///
/// "Inside" means a path as the command sees it, "host" a path of the calling process. All paths are absolute and have
/// no `.` or `..` components.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// Host: an existing, empty directory owned by the caller, in the same file system as `store_scratch`. The helper makes `root`,
    /// `lower` and `merged` (mount points), `work` (of an overlay) and `tmp` (what the command sees as `/tmp`, may be large) in it;
    /// the caller removes it afterwards.
    #[serde(with = "crate::latin1")]
    pub scratch: PathBuf,
    /// Inside: the directory in which the outputs are made, for example `/nix/store`.
    #[serde(with = "crate::latin1")]
    pub store_dir: PathBuf,
    /// Host: an empty directory, writable at `store_dir` (under an overlay, which may leave `overlay.*` attributes). As root the helper makes it `root:gid 01775`, so that
    /// the command can add entries and cannot remove those of others. Outputs are found here afterwards. Alone in the directory that it
    /// is in; else every input is a mount, which takes longer.
    #[serde(with = "crate::latin1")]
    pub store_scratch: PathBuf,
    /// Inside: the working area, for example `/build`.
    #[serde(with = "crate::latin1")]
    pub build_dir: PathBuf,
    /// Host: mounted writable at `build_dir`. The caller makes it 0700 and owned by the host uid of the command.
    #[serde(with = "crate::latin1")]
    pub build_scratch: PathBuf,
    /// Host: a directory that only root can change, with nothing in it that anybody else may write. An input whose source is in it
    /// needs no mount when the helper runs as root.
    #[serde(with = "crate::latin1")]
    pub content_dir: Option<PathBuf>,
    /// Read-only inputs. One of them may not lie inside another.
    pub inputs: Vec<Input>,
    /// The same for everything else, for example `/bin/sh`.
    pub extra: Vec<Input>,
    /// Small files of the new root, for example `/etc/passwd`. Nothing in the root can be written by the command.
    pub files: Vec<FileSpec>,
    /// Inside: the executable. With `own`, only a name.
    #[serde(with = "crate::latin1")]
    pub program: Vec<u8>,
    /// The helper itself does it: nothing is executed, and the function that was given to
    /// [`sandbox_exec_main_with`](crate::sandbox_exec_main_with) is called in the place of the program.
    #[serde(default)]
    pub own: bool,
    /// All arguments, `argv[0]` included.
    #[serde(with = "crate::latin1")]
    pub argv: Vec<Vec<u8>>,
    /// The whole environment, in this order.
    #[serde(with = "crate::latin1")]
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Inside: the working directory.
    #[serde(with = "crate::latin1")]
    pub cwd: PathBuf,
    /// Inside: user of the command.
    pub uid: u32,
    /// Inside: group of the command.
    pub gid: u32,
    /// Host user and group that `uid` and `gid` stand for. Required (and neither may be 0) when the helper runs as root:
    /// use a distinct pair for every command that runs at the same time. `None` when it runs as an ordinary user,
    /// who then is the only user there is.
    pub host_ids: Option<(u32, u32)>,
    /// Host name inside.
    pub hostname: String,
    /// NIS domain name inside; the kernel's own default is `(none)`.
    pub domainname: String,
    /// Present a 32-bit x86 machine to the command (`uname -m` is `i686`).
    pub i686: bool,
    /// What of the network the command can reach.
    pub network: Network,
    /// Character devices in `/dev` besides those that every command has, for example `/dev/kvm`. For programs of the
    /// operator, never for a build.
    #[serde(default, with = "crate::latin1")]
    pub devices: Vec<PathBuf>,
    /// Lay out address spaces at random. Builds have it off, as in Nix; programs that stand between tenants want it.
    #[serde(default)]
    pub randomize: bool,
    /// Most processes and threads, where no control group limits them. The command can see it.
    #[serde(default)]
    pub processes: Option<u64>,
    /// Most terminals. Those of all commands that run at a time, and of the host, are at most 4096.
    #[serde(default = "terminals")]
    pub terminals: u32,
    /// Host: control group directories (of any version) that the command is put into before it runs. Made, limited and
    /// removed by the caller.
    #[serde(with = "crate::latin1")]
    pub cgroups: Vec<PathBuf>,
    /// When to stop it.
    pub limits: Limits,
}

fn terminals() -> u32 {
    SandboxSpec::TERMINALS
}

impl SandboxSpec {
    /// Terminals of a command that has few beside it.
    pub const TERMINALS: u32 = 256;
}

/// A host file, directory or symbolic link that the command can read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Inside: where it appears.
    #[serde(with = "crate::latin1")]
    pub target: PathBuf,
    /// Host: a directory or regular file is mounted (read-only, nosuid, nodev; mounts below it are not followed), or shown in an
    /// overlay; a symbolic link is recreated with the same target text.
    #[serde(with = "crate::latin1")]
    pub source: PathBuf,
}

/// A file that is written into the new root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSpec {
    /// Inside. Missing parent directories are made with mode 0755.
    #[serde(with = "crate::latin1")]
    pub path: PathBuf,
    /// The bytes.
    #[serde(with = "crate::latin1")]
    pub contents: Vec<u8>,
    /// Permission bits, for example `0o644`.
    pub mode: u32,
}

/// What of the network the command can reach.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Network {
    /// A loopback device of its own (127.0.0.1 and ::1), nothing else.
    #[default]
    Loopback,
    /// Besides, by TCP, the public internet: for commands whose result is checked against a known hash. A device of its own network
    /// namespace leads to a process that makes the connections on the host, with no other rights. Needs `/dev/net/tun`.
    Relayed(Relay),
}

/// Where a relayed network leads. Never to the host's loopback device and its own addresses, nor to private, link-local, multicast and
/// other special ranges, but for what is allowed here. No UDP but for names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Relay {
    /// What may be reached besides the public internet. (127.0.0.0/8 and ::1 are the command's own in any case.)
    pub allow: Vec<IpRange>,
    /// Servers that answer queries for names, wherever they are; only their port. The command asks [`RESOLVER`].
    pub resolvers: Vec<SocketAddr>,
}

/// Where a command with a relayed network finds the resolver, port 53.
pub const RESOLVER: std::net::Ipv4Addr = std::net::Ipv4Addr::new(198, 18, 0, 53);

/// When to stop the command. `None` is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Longest run.
    pub wall: Option<Duration>,
    /// Longest time without any output. Time in which output waits for a slow reader does not count.
    pub silent: Option<Duration>,
    /// Most bytes of output; exactly so many are delivered before the command is stopped.
    pub log_bytes: Option<u64>,
}
