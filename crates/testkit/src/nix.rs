//! A real, unmodified Nix with a store, a home and a configuration of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::Root;

/// One user's Nix.
#[derive(Debug)]
pub struct Nix {
    dir: PathBuf,
    root: PathBuf,
    environment: Vec<(String, String)>,
    /// Where its programs stand, when not on this system.
    within: Option<Root>,
}

/// How a command went.
#[derive(Debug)]
pub struct Run {
    /// Whether it succeeded.
    pub ok: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error: the build log among it.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
}

impl Run {
    /// The lines of standard output.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.stdout.lines().map(str::to_owned).collect()
    }

    /// The same, if it succeeded.
    ///
    /// # Errors
    /// Quotes what it wrote when it failed.
    pub fn success(self) -> anyhow::Result<Self> {
        if self.ok {
            return Ok(self);
        }
        bail!("it failed:\n{}\n{}", self.stdout, self.stderr)
    }
}

impl Nix {
    /// An empty store, home and configuration below `dir`.
    ///
    /// # Errors
    /// When the folders cannot be made.
    pub fn new(dir: &Path) -> anyhow::Result<Self> {
        Self::with_store(dir, &dir.join("store"))
    }

    /// A home and configuration below `dir`, on the store below `root`, which may hold something already.
    ///
    /// # Errors
    /// When the folders cannot be made.
    pub fn with_store(dir: &Path, root: &Path) -> anyhow::Result<Self> {
        for folder in ["home", "conf", "tmp"] {
            std::fs::create_dir_all(dir.join(folder))?;
        }
        std::fs::create_dir_all(root)?;
        std::fs::write(
            dir.join("conf/nix.conf"),
            "substituters =\nbuild-users-group =\nexperimental-features = nix-command\nsandbox = true\nwarn-dirty = false\n",
        )?;
        Ok(Self {
            dir: dir.to_owned(),
            root: root.to_owned(),
            environment: Vec::new(),
            within: None,
        })
    }

    /// A variable for every command.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.environment.push((name.to_owned(), value.into()));
    }

    /// Has its programs be those of another root from now on.
    pub fn enter(&mut self, root: &Root) {
        self.within = Some(root.clone());
    }

    /// `local?root=…` of its store.
    #[must_use]
    pub fn store_uri(&self) -> String {
        format!("local?root={}", self.root.display())
    }

    /// Where a store path of this store stands on disk.
    #[must_use]
    pub fn on_disk(&self, store_path: &str) -> PathBuf {
        self.root.join(store_path.trim_start_matches('/'))
    }

    /// A folder of its own for expressions and the like.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A Nix program in this user's world. `store` says whether it works on this user's store.
    #[must_use]
    pub fn command(&self, program: &str, store: bool) -> Command {
        let mut command = match &self.within {
            Some(root) => root.command(program, Some(&self.dir)),
            None => Command::new(program),
        };
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.join("home"))
            .env("NIX_CONF_DIR", self.dir.join("conf"))
            .env("TMPDIR", self.dir.join("tmp"))
            .env("LANG", "C")
            .stdin(Stdio::null());
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        if store {
            command.env("NIX_REMOTE", self.store_uri());
        }
        command
    }

    /// Runs a Nix program on this user's store.
    ///
    /// # Errors
    /// When it cannot be started; a failure of the program is in [`Run::ok`].
    pub fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<Run> {
        run(self.command(program, true).args(arguments))
    }

    /// Writes an expression to a file of this user.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn expression(&self, text: &str) -> anyhow::Result<PathBuf> {
        let file = self.dir.join(format!("{:016x}.nix", fingerprint(text)));
        std::fs::write(&file, text)?;
        Ok(file)
    }

    /// Paths of the derivations that an expression file evaluates to.
    ///
    /// # Errors
    /// When the evaluation fails.
    pub fn instantiate(&self, file: &Path, arguments: &[&str]) -> anyhow::Result<Vec<String>> {
        let file = file.to_str().context("expression file")?;
        let run = self
            .run("nix-instantiate", &[&[file], arguments].concat())?
            .success()?;
        Ok(run
            .lines()
            .into_iter()
            .map(|l| l.split('!').next().unwrap_or_default().to_owned())
            .collect())
    }

    /// NAR hash of a valid path.
    ///
    /// # Errors
    /// When it is not valid.
    pub fn nar_hash(&self, store_path: &str) -> anyhow::Result<String> {
        Ok(self
            .run("nix-store", &["--query", "--hash", store_path])?
            .success()?
            .stdout
            .trim()
            .to_owned())
    }

    /// Makes what stands at a path of this store valid, as if it had been built here: other bytes than the derivation gives are fine.
    ///
    /// # Errors
    /// When Nix refuses it.
    pub fn register(&self, store_path: &str, references: &[String]) -> anyhow::Result<()> {
        let tree = self.on_disk(store_path);
        let tree = tree.to_str().context("store path")?;
        let hash = run(self.command("nix-hash", false).args(["--type", "sha256", tree]))?.success()?;
        let nar = self.command("nix-store", false).args(["--dump", tree]).output()?;
        let text = format!(
            "{store_path}\n{}\n{}\n\n{}\n{}",
            hash.stdout.trim(),
            nar.stdout.len(),
            references.len(),
            references.iter().map(|r| format!("{r}\n")).collect::<String>(),
        );
        let file = self.dir.join("registration");
        std::fs::write(&file, text)?;
        let input = std::fs::File::open(&file)?;
        run(self.command("nix-store", true).arg("--load-db").stdin(input))?
            .success()
            .map(drop)
    }

    /// Makes paths of this store input-addressed and gives them references, all at once: to those whose places `references` names.
    ///
    /// # Errors
    /// When Nix refuses it.
    pub fn register_all(
        &self,
        store_paths: &[String],
        references: impl Fn(usize) -> Vec<usize>,
    ) -> anyhow::Result<()> {
        let query = |what: &str| -> anyhow::Result<Vec<String>> {
            let mut arguments = vec!["--query", what];
            arguments.extend(store_paths.iter().map(String::as_str));
            Ok(self.run("nix-store", &arguments)?.success()?.lines())
        };
        let mut text = String::new();
        let facts = query("--hash")?.into_iter().zip(query("--size")?);
        for ((at, path), (hash, size)) in store_paths.iter().enumerate().zip(facts) {
            let references = references(at);
            text.push_str(&format!("{path}\n{hash}\n{size}\n\n{}\n", references.len()));
            for to in references {
                text.push_str(store_paths.get(to).context("a reference to nothing")?);
                text.push('\n');
            }
        }
        let file = self.dir.join("registration");
        std::fs::write(&file, text)?;
        let input = std::fs::File::open(&file)?;
        run(self.command("nix-store", true).arg("--load-db").stdin(input))?
            .success()
            .map(drop)
    }

    /// Output paths of a derivation.
    ///
    /// # Errors
    /// When the derivation is not valid.
    pub fn outputs(&self, drv: &str) -> anyhow::Result<Vec<String>> {
        Ok(self
            .run("nix-store", &["--query", "--outputs", drv])?
            .success()?
            .lines())
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<Run> {
    let begun = Instant::now();
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .output()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    Ok(Run {
        ok: status.success(),
        stdout: text(&stdout),
        stderr: text(&stderr),
        took: begun.elapsed(),
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "output of programs, for people and assertions"
)]
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn fingerprint(text: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
