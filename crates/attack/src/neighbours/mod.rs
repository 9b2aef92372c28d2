//! Builds of accounts at the same time: each has secrets, and looks for what the other one has.
//!
//! All are this program. They agree on names beforehand, as accounts in league would.

mod counted;
mod duel;
mod life;
mod ways;

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::SocketAddr;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use crate::host;

pub(crate) use counted::{greedy, needy};
pub(crate) use duel::duel;
pub(crate) use ways::seeker;

use life::Life;

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

/// Each way of a seeker, and what must come of it.
pub const WAYS: [(&str, &str); 14] = [
    ("files", "absent"),
    ("abstract-socket", "denied:ECONNREFUSED"),
    ("socket-in-build", "denied:ENOENT"),
    ("socket-in-tmp", "denied:ENOENT"),
    ("port", "denied:ECONNREFUSED"),
    ("shared-memory", "denied:ENOENT"),
    ("message-queue", "denied:ENOENT"),
    ("keys", "denied:ENOSYS"),
    ("processes", "hidden"),
    ("signals", "denied:ESRCH"),
    ("trace", "denied:ESRCH"),
    ("priorities", "denied:ESRCH"),
    ("host-directories", "absent"),
    ("proc-text", "hidden"),
];

/// The same for inputs that both have. An overlay gives each build files of its own.
pub const INPUTS_OF_AN_OVERLAY: [(&str, &str); 3] = [
    ("input-kind", "value:overlay"),
    ("lock-input", "reached"),
    ("watch-input", "hidden"),
];

/// Where inputs are mounted, they are one file for all builds. Known: docs/sandbox.md, "What remains".
pub const MOUNTED_INPUTS: [(&str, &str); 3] = [
    ("input-kind", "value:stored files"),
    ("lock-input", "denied:EAGAIN"),
    ("watch-input", "leaked:when others read the input"),
];

/// What a duellist does besides seeking, when nobody disturbs it.
pub const OWN: [(&str, &str); 4] = [
    ("get-inotify", "reached"),
    ("get-message-queues", "reached"),
    ("get-signals", "reached"),
    ("fill", "reached"),
];

/// Where a build has its secrets.
struct Marks {
    /// Of files, sockets, queues.
    name: String,
    secret: String,
    port: u16,
    /// Of shared memory.
    key: usize,
    /// Consecutive words of its command line.
    command: Vec<String>,
    /// A file of the input, which it locks.
    locked: String,
}

impl Marks {
    fn victim() -> Self {
        Self {
            name: "firn-attack-neighbour".to_owned(),
            secret: SECRET.to_owned(),
            port: 40_407,
            key: 0x6669_726e,
            command: vec!["victim".to_owned()],
            locked: "data".to_owned(),
        }
    }

    /// Of the one that is called that; the other one of two is called `other`.
    fn duellist(name: &str, other: &str) -> Self {
        let sum = name
            .bytes()
            .fold(7u16, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        Self {
            name: format!("firn-attack-{name}"),
            secret: format!("the-secret-of-{name}"),
            port: 41_000 + sum % 10_000,
            key: 0x6669_0000 | usize::from(sum),
            command: ["duel", name, other].map(str::to_owned).to_vec(),
            locked: name.to_owned(),
        }
    }

    fn places(&self) -> [String; 3] {
        ["/build", "/tmp", "/dev/shm"].map(|dir| format!("{dir}/{}", self.name))
    }

    fn sockets(&self) -> [String; 2] {
        ["/build", "/tmp"].map(|dir| format!("{dir}/{}.socket", self.name))
    }

    fn abstract_name(&self) -> SocketAddr {
        SocketAddr::from_abstract_name(&self.name).expect("a name")
    }

    fn locked(&self) -> String {
        host::shared(&self.locked)
    }
}

static SOUGHT: OnceLock<Marks> = OnceLock::new();

/// Whose secrets are looked for by this process.
fn sought() -> &'static Marks {
    SOUGHT.get_or_init(Marks::victim)
}

/// Live, and tell each round whether anything was disturbed. Ends when it is killed.
pub(crate) fn victim() -> ExitCode {
    let life = Life::begin(Marks::victim());
    if !life.holds_the_lock {
        println!("{VICTIM_DISTURBED}: the input is locked");
    }
    println!("{VICTIM_READY}");
    loop {
        std::thread::sleep(Duration::from_millis(50));
        // Others have this input, too.
        let _ = std::fs::read(host::data());
        let wrong = life.wrong();
        if wrong.is_empty() {
            println!("{VICTIM_WELL}");
        } else {
            println!("{VICTIM_DISTURBED}: {}", wrong.join(", "));
        }
    }
}
