//! `builtin:unpack-channel`: the only entry of a tar archive, under another name.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};

use tar::{Archive, Entry, EntryType};

use crate::decompress::decompress;
use crate::error::OfFile as _;
use crate::{BuiltinError, Call};

pub(crate) fn unpack_channel(call: &Call<'_>) -> Result<(), BuiltinError> {
    let out = call.path("out")?;
    let src = call.path("src")?;
    let name = call.get("channelName")?;
    if name.contains(&b'/') || matches!(name, b"" | b"." | b"..") {
        return Err(BuiltinError::Invalid {
            name: "channelName",
            why: "it is not the name of a file".to_owned(),
        });
    }
    fs::create_dir_all(&out).of_file("creating", &out)?;
    unpack(&src, &out)?;
    let entries: Vec<_> = fs::read_dir(&out)
        .and_then(Iterator::collect)
        .of_file("reading", &out)?;
    let [entry] = entries.as_slice() else {
        return Err(BuiltinError::Refused(format!(
            "channel tarball '{}' contains more than one file",
            src.display()
        )));
    };
    fs::rename(entry.path(), out.join(OsStr::from_bytes(name))).of_file("renaming", &entry.path())
}

/// Unpacks a tar archive, which may be compressed with gzip, bzip2, xz or zstd, into a directory that nobody else writes to.
fn unpack(archive: &Path, out: &Path) -> Result<(), BuiltinError> {
    let malformed = |why: String| BuiltinError::Archive {
        what: archive.display().to_string(),
        why,
    };
    let read = |error: io::Error| malformed(error.to_string());
    let file = File::open(archive).of_file("opening", archive)?;
    let mut archive = Archive::new(decompress(BufReader::new(file)).map_err(read)?);
    let mut empty = true;
    for entry in archive.entries().map_err(read)? {
        let mut entry = entry.map_err(read)?;
        empty = false;
        let name = PathBuf::from(OsStr::from_bytes(&entry.path_bytes()));
        let Some(at) = inside(out, &name).map_err(malformed)? else {
            continue;
        };
        make(&mut entry, &at, out).map_err(|error| match error {
            Make::File(error) => error,
            Make::Archive(why) => malformed(format!("'{}': {why}", name.display())),
        })?;
    }
    if empty {
        return Err(malformed("it is no tar archive, or has nothing in it".to_owned()));
    }
    Ok(())
}

enum Make {
    File(BuiltinError),
    Archive(String),
}

impl From<BuiltinError> for Make {
    fn from(error: BuiltinError) -> Self {
        Self::File(error)
    }
}

/// Where an entry belongs; nothing for the root itself. Its directories exist afterwards, and none of them is a link.
fn inside(out: &Path, name: &Path) -> Result<Option<PathBuf>, String> {
    let mut at = out.to_owned();
    let mut parts = Vec::new();
    for part in name.components() {
        match part {
            Component::Normal(part) => parts.push(part),
            Component::CurDir => {}
            Component::RootDir | Component::ParentDir | Component::Prefix(_) => {
                return Err(format!("'{}' leads out of the archive", name.display()));
            }
        }
    }
    let Some(last) = parts.pop() else {
        return Ok(None);
    };
    for part in parts {
        at.push(part);
        match fs::symlink_metadata(&at) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => {
                return Err(format!(
                    "'{}' is in something that is no directory",
                    name.display()
                ));
            }
            Err(_) => fs::create_dir(&at).map_err(|e| format!("creating '{}': {e}", at.display()))?,
        }
    }
    at.push(last);
    Ok(Some(at))
}

fn make(entry: &mut Entry<'_, impl Read>, at: &Path, out: &Path) -> Result<(), Make> {
    let kind = entry.header().entry_type();
    let existing = fs::symlink_metadata(at).ok();
    if kind == EntryType::Directory {
        return match existing {
            Some(meta) if meta.is_dir() => Ok(()),
            Some(_) => Err(Make::Archive("is there already, and no directory".to_owned())),
            None => Ok(fs::create_dir(at).of_file("creating", at)?),
        };
    }
    match existing {
        Some(meta) if meta.is_dir() => {
            return Err(Make::Archive("is there already, and a directory".to_owned()));
        }
        // The later one counts.
        Some(_) => fs::remove_file(at).of_file("removing", at)?,
        None => {}
    }
    let link = |entry: &Entry<'_, _>| {
        let target = entry.link_name_bytes();
        target
            .map(|target| PathBuf::from(OsStr::from_bytes(&target)))
            .ok_or_else(|| Make::Archive("links to nothing".to_owned()))
    };
    match kind {
        EntryType::Symlink => Ok(symlink(link(entry)?, at).of_file("creating", at)?),
        EntryType::Link => {
            let target = inside(out, &link(entry)?).map_err(Make::Archive)?;
            let target = target.ok_or_else(|| Make::Archive("links to the root".to_owned()))?;
            // A copy: outputs have no hard links.
            match fs::symlink_metadata(&target) {
                Ok(meta) if meta.is_file() => Ok(fs::copy(&target, at).map(drop).of_file("copying", at)?),
                Ok(meta) if meta.is_symlink() => {
                    let text = fs::read_link(&target).of_file("reading", &target)?;
                    Ok(symlink(text, at).of_file("creating", at)?)
                }
                _ => Err(Make::Archive(
                    "links to what is no file of the archive".to_owned(),
                )),
            }
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            let executable = entry.header().mode().is_ok_and(|mode| mode & 0o100 != 0);
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(if executable { 0o755 } else { 0o644 })
                .open(at)
                .of_file("creating", at)?;
            Ok(io::copy(entry, &mut file).map(drop).of_file("writing", at)?)
        }
        EntryType::XGlobalHeader | EntryType::XHeader => Ok(()),
        _ => Err(Make::Archive(
            "is neither a file, a directory nor a link".to_owned(),
        )),
    }
}
