//! The files that every machine starts from: made once, checked at the start of a service.
//!
//! A kernel, an initial file system that only finds and mounts the tools, and the tools: an image that is the guest's root, with the
//! guest's side of Firn in it. All are read-only and the same for every tenant.

mod cpio;
mod elf;
mod error;
mod initrd;
mod kernel;
mod lz4;
mod manifest;
mod tools;

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub use error::{PrepareError, PreparedError};
pub use manifest::{MANIFEST, Manifest, Part};

use error::Named as _;

/// Where the kernel comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelSource {
    /// The package manager downloads this package, or the one it stands for; it is not installed.
    Package(String),
    /// This package file (`.deb`).
    File(PathBuf),
}

/// What to prepare machines with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrepareOptions {
    /// Debian's cloud kernel 6.1 is the one that is tested.
    pub kernel: KernelSource,
    /// An executable whose `main` is [`guest_main`](crate::guest_main) when its first argument is `vm-init`, and
    /// [`firn_sandbox::sandbox_exec_main`] when that is `sandbox-exec`.
    pub guest: PathBuf,
    /// A statically linked busybox: the initial shell, and `/bin/sh` of builds.
    pub busybox: PathBuf,
    /// `mke2fs` of e2fsprogs.
    pub mke2fs: PathBuf,
}

impl PrepareOptions {
    /// Everything from the usual places of Debian 12.
    #[must_use]
    pub fn new(guest: impl Into<PathBuf>) -> Self {
        Self {
            kernel: KernelSource::Package("linux-image-cloud-amd64".to_owned()),
            guest: guest.into(),
            busybox: "/bin/busybox".into(),
            mke2fs: "/sbin/mke2fs".into(),
        }
    }
}

/// Makes the files of a machine in `dir`, which is made when absent. What is there already is replaced in one step at the end; machines that
/// run meanwhile keep theirs.
///
/// # Errors
/// [`PrepareError`], with what a program said that was needed for it. The directory is as before then.
pub fn prepare(dir: &Path, options: &PrepareOptions) -> Result<Manifest, PrepareError> {
    fs::create_dir_all(dir).named("make", dir)?;
    let work = tempfile::Builder::new()
        .prefix("preparing-")
        .tempdir_in(dir)
        .named("make a directory in", dir)?;
    let at = |name: &str| work.path().join(name);

    let package = kernel::fetch(&options.kernel, &at("package"))?;
    kernel::unpack_image(&package.image, &at("kernel"))?;
    initrd::make(&package, &options.busybox, &at("initrd"))?;
    tools::make(options, &at("root"), &at("tools"))?;

    let manifest = Manifest {
        format: manifest::FORMAT,
        firn: env!("CARGO_PKG_VERSION").to_owned(),
        kernel_package: package.name,
        kernel_release: package.release,
        kernel: Part::of(&at("kernel"), "kernel")?,
        initrd: Part::of(&at("initrd"), "initrd")?,
        tools: Part::of(&at("tools"), "tools")?,
        shell: manifest::digest(&options.busybox)?,
        guest: manifest::digest(&options.guest)?,
    };
    for part in manifest.parts() {
        let name = part.name.split('-').next().unwrap_or_default();
        let made = at(name);
        fs::set_permissions(&made, Permissions::from_mode(0o444)).named("chmod", &made)?;
        let target = dir.join(&part.name);
        fs::rename(&made, &target).named("put in place", &target)?;
    }
    manifest.write(dir, &at("manifest"))?;
    manifest.remove_others(dir);
    Ok(manifest)
}

/// A prepared directory that is complete.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    dir: PathBuf,
    manifest: Manifest,
}

impl Prepared {
    pub(crate) fn open(dir: &Path) -> Result<Self, PreparedError> {
        let dir = fs::canonicalize(dir).map_err(|source| PreparedError::Read {
            path: dir.to_owned(),
            source,
        })?;
        let manifest = Manifest::open(&dir)?;
        Ok(Self { dir, manifest })
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub(crate) fn kernel(&self) -> PathBuf {
        self.dir.join(&self.manifest.kernel.name)
    }

    pub(crate) fn initrd(&self) -> PathBuf {
        self.dir.join(&self.manifest.initrd.name)
    }

    pub(crate) fn tools(&self) -> PathBuf {
        self.dir.join(&self.manifest.tools.name)
    }
}

/// Runs a program of this machine to its end and gives what it printed.
fn program(command: &mut Command) -> Result<Vec<u8>, PrepareError> {
    let name = command.get_program().to_owned();
    let name = || name.display().to_string();
    let output = command
        .stdin(Stdio::null())
        .env("LC_ALL", "C")
        .output()
        .map_err(|source| PrepareError::Start {
            program: name(),
            source,
        })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(PrepareError::Program {
        program: name(),
        status: output.status.to_string(),
        said: output.stderr.trim_ascii().escape_ascii().to_string(),
    })
}

/// A copy with these permissions.
fn copy(from: &Path, to: &Path, mode: u32) -> Result<(), PrepareError> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).named("make", parent)?;
    }
    let copy = || -> io::Result<()> {
        io::copy(&mut fs::File::open(from)?, &mut fs::File::create(to)?)?;
        fs::set_permissions(to, Permissions::from_mode(mode))
    };
    copy().named("copy", from)
}
