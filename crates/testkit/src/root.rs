//! Another system's root folder, entered for one command: a Nix of another version with all that it needs.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::find;

/// In a mount namespace of its own, which ends with the command and leaves nothing mounted.
///
/// Not chroot: user namespaces are refused inside one, and Nix would silently build without its sandbox. `$2` is seen under its own
/// name; an empty file system at its first component keeps the folders on the way out of the root.
const ENTER: &str = r#"
root=$1 seen=$2; shift 2
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
if [ -n "$seen" ]; then
    top=${seen#/}; top=${top%%/*}
    mkdir -p "$root/$top"
    mount -t tmpfs -o mode=755 tmpfs "$root/$top"
    mkdir -p "$root$seen"
    mount --rbind "$seen" "$root$seen"
fi
cd "$root"
pivot_root . mnt
cd /
umount -l /mnt
cd "/$seen"
exec "$@"
"#;

/// A root folder.
#[derive(Clone, Debug)]
pub struct Root {
    dir: PathBuf,
}

impl Root {
    /// The root that stands in `dir`.
    ///
    /// # Errors
    /// Why it cannot be entered, for a test that skips.
    pub fn open(dir: &Path) -> Result<Self, String> {
        for program in ["unshare", "pivot_root", "mount"] {
            if find(program).is_none() {
                return Err(format!("not installed: {program} (package util-linux)"));
            }
        }
        let dir = dir
            .canonicalize()
            .map_err(|e| format!("{}: {e}", dir.display()))?;
        let root = Self { dir };
        match root.command("true", None).output() {
            Ok(done) if done.status.success() => Ok(root),
            Ok(done) => Err(format!(
                "cannot enter {}: {}",
                root.dir.display(),
                done.stderr.escape_ascii()
            )),
            Err(e) => Err(format!("cannot start unshare: {e}")),
        }
    }

    /// A command in there that sees the folder `seen` of this system, too, and stands in it.
    #[must_use]
    pub fn command(&self, program: &str, seen: Option<&Path>) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-ec", ENTER, "sh"])
            .arg(&self.dir)
            .arg(seen.unwrap_or(Path::new("")))
            .arg(program);
        command
    }
}
