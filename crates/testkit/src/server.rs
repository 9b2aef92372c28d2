//! A real Firn on a free loopback port, and its clients.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::nix::run;
use crate::{Nix, Run};

/// How long a server may take to be ready or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tests need nothing beyond loopback, and the caches that they ask are there.
pub const OFF_LINE: &str = "[settings]\nsubstituters = []\n\n[caches]\nallow-private-networks = true\n";

/// A running `firn serve`; stopped when dropped, and nothing of it is left then, even if it was killed before.
#[derive(Debug)]
pub struct Server {
    program: PathBuf,
    dir: PathBuf,
    port: u16,
    child: Option<Child>,
    /// What it has printed since its start.
    printed: Arc<Mutex<String>>,
    /// Whom it runs as, when not as the caller.
    user: Option<u32>,
    /// Where its log goes, when that is not below `dir`.
    log: Option<PathBuf>,
    /// Removed at the end unless it was the caller's.
    temporary: Option<tempfile::TempDir>,
}

impl Server {
    /// Starts one with a data directory of its own.
    ///
    /// # Errors
    /// When it does not get ready; quotes its log.
    pub fn start(program: &Path) -> anyhow::Result<Self> {
        let target = program.parent().and_then(Path::parent).unwrap_or(Path::new("."));
        let temporary = crate::scratch(&target.join("tmp"))?;
        let mut server = Self::start_in(program, temporary.path())?;
        server.temporary = Some(temporary);
        Ok(server)
    }

    /// Starts one below `dir`, which stays.
    ///
    /// # Errors
    /// When it does not get ready; quotes its log.
    pub fn start_in(program: &Path, dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut server = Self {
            program: std::path::absolute(program)?,
            dir: std::path::absolute(dir)?,
            port: 0,
            child: None,
            printed: Arc::default(),
            user: None,
            log: None,
            temporary: None,
        };
        server.launch()?;
        Ok(server)
    }

    /// Starts one as another user; the caller is root. The error says why when that user cannot reach the program.
    ///
    /// # Errors
    /// When the user cannot run the program, or the server does not get ready; quotes its log.
    pub fn start_as(program: &Path, user: u32) -> anyhow::Result<Self> {
        let target = program.parent().and_then(Path::parent).unwrap_or(Path::new("."));
        let temporary = crate::scratch(&target.join("tmp"))?;
        let dir = std::path::absolute(temporary.path())?;
        std::os::unix::fs::chown(&dir, Some(user), Some(user))?;
        let mut server = Self {
            program: std::path::absolute(program)?,
            dir,
            port: 0,
            child: None,
            printed: Arc::default(),
            user: Some(user),
            log: None,
            temporary: Some(temporary),
        };
        let reach = server.command().arg("--version").output()?;
        if !reach.status.success() {
            bail!("user {user} cannot run {}", program.display());
        }
        server.launch()?;
        Ok(server)
    }

    fn command(&self) -> Command {
        let Some(user) = self.user else {
            return Command::new(&self.program);
        };
        let mut command = Command::new("setpriv");
        let user = user.to_string();
        command
            .args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"])
            .arg(&self.program);
        command
    }

    /// Starts it again on the same data and the same port.
    ///
    /// # Errors
    /// When it does not get ready; quotes its log.
    pub fn launch(&mut self) -> anyhow::Result<()> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_file())?;
        let mut child = Command::new(&self.program)
            .args([
                "serve",
                "--listen",
                &format!("127.0.0.1:{}", self.port),
                "--data-dir",
            ])
            .arg(self.data_dir())
            .env("FIRN_CONFIG", self.config_file()?)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let output = child.stdout.take().context("standard output")?;
        self.child = Some(child);
        let printed: Arc<Mutex<String>> = Arc::default();
        self.printed = Arc::clone(&printed);
        let keep = move |line: &String| {
            let mut printed = printed.lock().unwrap_or_else(PoisonError::into_inner);
            printed.push_str(line);
            printed.push('\n');
        };
        let mut lines = BufReader::new(output).lines().map_while(Result::ok).inspect(keep);
        let port = lines.find_map(|line| {
            line.trim()
                .strip_prefix("ssh ")?
                .trim()
                .rsplit_once(':')?
                .1
                .parse()
                .ok()
        });
        let Some(port) = port else {
            bail!("the server did not get ready:\n{}", self.log())
        };
        self.port = port;
        // The pipe is read to its end, so that the server never blocks on it.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(())
    }

    fn config_file(&self) -> anyhow::Result<PathBuf> {
        let file = self.dir.join("firn.toml");
        if !file.exists() {
            std::fs::write(&file, OFF_LINE)?;
        }
        Ok(file)
    }

    /// Its configuration from the next start on, behind what keeps it from asking the world.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn configure(&self, toml: &str) -> anyhow::Result<()> {
        Ok(std::fs::write(
            self.config_file()?,
            format!("{OFF_LINE}\n{toml}"),
        )?)
    }

    /// What holds for accounts that set nothing, from the next start on, behind what keeps it from asking the world.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn configure_settings(&self, toml: &str) -> anyhow::Result<()> {
        let settings = OFF_LINE.replacen("[settings]\n", &format!("[settings]\n{toml}\n"), 1);
        Ok(std::fs::write(self.config_file()?, settings)?)
    }

    /// Its data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The control groups that its builds are in, now.
    #[must_use]
    pub fn groups(&self) -> Vec<PathBuf> {
        crate::groups::find(&self.data_dir().join("builds"))
            .into_iter()
            .collect()
    }

    /// Where its log goes from the next start on.
    pub fn log_to(&mut self, file: &Path) {
        self.log = Some(file.to_owned());
    }

    fn log_file(&self) -> PathBuf {
        self.log.clone().unwrap_or_else(|| self.dir.join("firn.log"))
    }

    /// What it printed to paste, whole.
    ///
    /// # Errors
    /// When its last line does not come.
    pub fn banner(&self) -> anyhow::Result<String> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let printed = self
                .printed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            if printed.contains("builders-use-substitutes") {
                return Ok(printed);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("the server printed no lines to paste")
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to stop, and waits; kills it when it does not.
    pub fn stop(&mut self) {
        let Some(pid) = self.pid() else { return };
        let _ = Command::new("kill").args(["-TERM", &pid.to_string()]).status();
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            match self.child.as_mut().map(Child::try_wait) {
                Some(Ok(None)) => std::thread::sleep(Duration::from_millis(20)),
                _ => break,
            }
        }
        self.kill();
    }

    /// A command of the binary on this server.
    ///
    /// # Errors
    /// When it cannot be started; a failure is in [`Run::ok`].
    pub fn firn(&self, arguments: &[&str]) -> anyhow::Result<Run> {
        run(Command::new(&self.program)
            .args(arguments)
            .arg("--data-dir")
            .arg(self.data_dir())
            .env("FIRN_CONFIG", self.config_file()?)
            .stdin(Stdio::null()))
    }

    /// A new account with a new key, and a Nix that uses it.
    ///
    /// # Errors
    /// When any of it cannot be made.
    pub fn client(&self, account: &str) -> anyhow::Result<Client> {
        self.firn(&["account", "add", account])?.success()?;
        self.another_client(account, account)
    }

    /// One more key and Nix for an account that exists.
    ///
    /// # Errors
    /// When any of it cannot be made.
    pub fn another_client(&self, account: &str, folder: &str) -> anyhow::Result<Client> {
        let dir = self.dir.join("clients").join(folder);
        let mut nix = Nix::new(&dir)?;
        let key = dir.join("id_ed25519");
        run(Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", folder, "-f"])
            .arg(&key)
            .stdin(Stdio::null()))?
        .success()?;
        let public = key.with_extension("pub");
        let public = public.to_str().context("key file")?;
        self.firn(&["ssh-keys", "add", public, "--account", account])?
            .success()?;
        let config = dir.join("ssh_config");
        std::fs::write(
            &config,
            format!(
                "Host firn\n  HostName 127.0.0.1\n  Port {port}\n  User firn\n  IdentityFile {key}\n  IdentitiesOnly yes\n  \
                 BatchMode yes\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n",
                port = self.port,
                key = key.display(),
            ),
        )?;
        nix.set("NIX_SSHOPTS", format!("-F {}", config.display()));
        Ok(Client {
            nix,
            ssh_config: config,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        crate::groups::remove(&self.data_dir().join("builds"));
    }
}

/// An account's Nix, set up to reach the server as `firn`.
#[derive(Debug)]
pub struct Client {
    /// Its Nix.
    pub nix: Nix,
    /// For `ssh -F`.
    pub ssh_config: PathBuf,
}

impl Client {
    /// Builds derivations (or makes paths valid) with the server as the only builder.
    ///
    /// # Errors
    /// When Nix cannot be started; a failed build is in [`Run::ok`].
    pub fn realise(&self, scheme: &str, drvs: &[String], more: &[&str]) -> anyhow::Result<Run> {
        let builders = format!("{scheme}://firn x86_64-linux - 32 1 benchmark,big-parallel - -");
        let mut arguments = vec!["--realise", "--max-jobs", "0", "--builders", &builders];
        arguments.extend(more);
        arguments.extend(drvs.iter().map(String::as_str));
        self.nix.run("nix-store", &arguments)
    }

    /// Evaluates an expression and builds all of it over `ssh-ng`; the outputs' paths.
    ///
    /// # Errors
    /// When the evaluation or a build fails.
    pub fn build(&self, expression: &str, arguments: &[&str]) -> anyhow::Result<Vec<String>> {
        let drvs = self
            .nix
            .instantiate(&self.nix.expression(expression)?, arguments)?;
        Ok(self.realise("ssh-ng", &drvs, &[])?.success()?.lines())
    }

    /// Builds an expression with the server as a remote store: derivations and sources are sent, outputs stay there. What it prints is JSON
    /// with the outputs' paths.
    ///
    /// # Errors
    /// When Nix cannot be started; a failed build is in [`Run::ok`].
    pub fn build_in_store(&self, expression: &str, more: &[&str]) -> anyhow::Result<Run> {
        let file = self.nix.expression(expression)?;
        let (file, local) = (file.to_str().context("file name")?, self.nix.store_uri());
        let store = ["--store", "ssh-ng://firn", "--eval-store", &local];
        let mut arguments = vec!["build", "--json", "--no-link", "-f", file];
        arguments.extend(store);
        arguments.extend(more);
        run(self.nix.command("nix", false).args(arguments))
    }

    /// A plain ssh command to the server.
    ///
    /// # Errors
    /// When ssh cannot be started.
    pub fn ssh(&self, command: &[&str]) -> anyhow::Result<Run> {
        run(Command::new("ssh")
            .arg("-F")
            .arg(&self.ssh_config)
            .arg("firn")
            .args(command)
            .stdin(Stdio::null()))
    }
}
