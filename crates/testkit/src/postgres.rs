//! A throwaway PostgreSQL server on a Unix socket, for one test process.
//!
//! A shell stands between: it holds a pipe from the test process, and when that ends, however the process dies, it stops the server and
//! removes its directory.
//!
//! ```
//! # use firn_testkit::postgres::Postgres;
//! match Postgres::start() {
//!     Ok(server) => println!("{}", server.database()?),
//!     Err(e) => println!("skipped: {e}"),
//! }
//! # Ok::<(), std::io::Error>(())
//! ```

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio, id};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long the server may take to start, and to stop.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where distributions put the programs, with versions in between.
const VERSIONS: &str = "/usr/lib/postgresql";
/// What is needed of them.
const PROGRAMS: [&str; 3] = ["initdb", "postgres", "createdb"];

/// Runs as long as the pipe on its standard input is open; a line that says so stops the server, or starts it again.
const KEEPER: &str = r#"
bin=$1 dir=$2
launch() {
"$bin/postgres" -D "$dir/data" -k "$dir" -c listen_addresses= -c fsync=off -c full_page_writes=off \
    -c max_connections=500 -c shared_buffers=32MB -c log_min_messages=fatal >"$dir/log" 2>&1 </dev/null &
pid=$!
}
halt() {
kill -INT "$pid"
wait "$pid"
}
launch
while read -r order; do
    case $order in
    stop) halt ;;
    start) launch ;;
    esac
done
halt
rm -rf "$dir"
"#;

/// A running server; stopped and removed when dropped, or when the process ends.
#[derive(Debug)]
pub struct Postgres {
    directory: PathBuf,
    programs: PathBuf,
    user: Option<(u32, u32)>,
    keeper: Child,
    databases: AtomicU32,
}

impl Postgres {
    /// Starts a server without durability, whose only user `postgres` needs no password.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when PostgreSQL is not installed: a reason to skip. Any other error says what failed.
    pub fn start() -> io::Result<Self> {
        static SERVERS: AtomicU32 = AtomicU32::new(0);
        let programs = find_programs()?;
        let user = unprivileged()?;
        let number = SERVERS.fetch_add(1, Ordering::Relaxed);
        // A socket's path has to be short.
        let directory = env::temp_dir().join(format!("firn-pg-{}-{number}", id()));
        fs::DirBuilder::new().mode(0o700).create(&directory)?;
        let started = make(&programs, &directory, user);
        let keeper = started.inspect_err(|_| {
            let _ = fs::remove_dir_all(&directory);
        })?;
        let mut server = Self {
            directory,
            programs,
            user,
            keeper,
            databases: AtomicU32::new(0),
        };
        server.wait_until_ready()?;
        Ok(server)
    }

    /// Makes a new, empty database and returns its URL.
    ///
    /// # Errors
    /// What `createdb` said.
    pub fn database(&self) -> io::Result<String> {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let arguments = [
            OsStr::new("-h"),
            self.directory.as_os_str(),
            OsStr::new("-U"),
            OsStr::new("postgres"),
            OsStr::new(&name),
        ];
        run(as_user(&self.programs.join("createdb"), self.user).args(arguments))?;
        let host = self.directory.display();
        Ok(format!("postgres:///{name}?host={host}&user=postgres"))
    }

    /// Ends the server as an administrator does who does not wait for its clients; what was committed stays.
    ///
    /// # Errors
    /// When it does not stop.
    pub fn stop(&mut self) -> io::Result<()> {
        self.order("stop")?;
        let end = Instant::now() + PATIENCE;
        let status = self.directory.join("data/postmaster.pid");
        while status.exists() {
            if Instant::now() > end {
                return Err(io::Error::other("postgres does not stop"));
            }
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Starts a stopped server again.
    ///
    /// # Errors
    /// When it does not start.
    pub fn launch(&mut self) -> io::Result<()> {
        self.order("start")?;
        self.wait_until_ready()
    }

    fn order(&mut self, word: &str) -> io::Result<()> {
        let pipe = self.keeper.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        writeln!(pipe, "{word}")
    }

    fn wait_until_ready(&mut self) -> io::Result<()> {
        let end = Instant::now() + PATIENCE;
        let status = self.directory.join("data/postmaster.pid");
        // The eighth line of the file is the server's state.
        while !fs::read_to_string(&status)
            .is_ok_and(|s| s.lines().nth(7).is_some_and(|l| l.trim() == "ready"))
        {
            let log = self.directory.join("log");
            if self.keeper.try_wait()?.is_some() || Instant::now() > end {
                let log = fs::read_to_string(log).unwrap_or_default();
                return Err(io::Error::other(format!("postgres does not start: {log}")));
            }
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let end = Instant::now() + PATIENCE;
        while matches!(self.keeper.try_wait(), Ok(None)) {
            if Instant::now() > end {
                let _ = self.keeper.kill();
            }
            sleep(Duration::from_millis(10));
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn make(programs: &Path, directory: &Path, user: Option<(u32, u32)>) -> io::Result<Child> {
    if let Some((uid, gid)) = user {
        chown(directory, Some(uid), Some(gid))?;
    }
    let data = directory.join("data");
    let options = [
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
        "--no-sync",
        "-D",
    ];
    run(as_user(&programs.join("initdb"), user).args(options).arg(&data))?;
    as_user(Path::new("/bin/sh"), user)
        .args(["-c", KEEPER, "sh"])
        .args([programs, directory])
        // So that an interrupt from the keyboard ends the test and leaves the shell to clean up.
        .process_group(0)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

/// The directory of a version that has all programs: the first on `PATH`, else the newest.
fn find_programs() -> io::Result<PathBuf> {
    let on_path = env::var_os("PATH").unwrap_or_default();
    // A link on PATH leads to one program; its neighbours are where it points to.
    let mut places: Vec<PathBuf> = env::split_paths(&on_path)
        .filter_map(|p| {
            p.join("postgres")
                .canonicalize()
                .ok()?
                .parent()
                .map(Path::to_owned)
        })
        .collect();
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(VERSIONS)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| Some((e.file_name().to_str()?.parse().ok()?, e.path().join("bin"))))
        .collect();
    versions.sort();
    places.extend(versions.into_iter().rev().map(|(_, place)| place));
    let complete = |place: &PathBuf| PROGRAMS.iter().all(|p| place.join(p).is_file());
    places.into_iter().find(complete).ok_or_else(|| {
        let missing = format!("no {} on PATH or in {VERSIONS}", PROGRAMS.join(", "));
        io::Error::new(io::ErrorKind::NotFound, missing)
    })
}

/// PostgreSQL refuses to run as root: user and group to take instead, when this is root.
fn unprivileged() -> io::Result<Option<(u32, u32)>> {
    if fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let ids = |wanted: &str| {
        let line = users.lines().find(|l| l.split(':').next() == Some(wanted))?;
        let mut numbers = line.split(':').skip(2).map(str::parse::<u32>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    };
    match ids("postgres").or_else(|| ids("nobody")) {
        Some(ids) => Ok(Some(ids)),
        None => Err(io::Error::new(
            io::ErrorKind::NotFound,
            "no user postgres or nobody to run PostgreSQL as",
        )),
    }
}

fn as_user(program: &Path, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/");
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let program = command.get_program().display();
    let said = output.stderr.escape_ascii();
    Err(io::Error::other(format!("{program}: {}: {said}", output.status)))
}
