//! Is a specification safe to carry out? Checked before the helper starts and again in it.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use crate::{SandboxError, SandboxSpec};

/// Places the sandbox furnishes itself.
const OWN: [&str; 3] = ["/dev", "/proc", "/tmp"];

pub(crate) fn validate(spec: &SandboxSpec) -> Result<(), SandboxError> {
    check(spec).map_err(SandboxError::InvalidSpec)
}

fn check(spec: &SandboxSpec) -> Result<(), String> {
    for (what, path) in [
        ("scratch", &spec.scratch),
        ("store_dir", &spec.store_dir),
        ("store_scratch", &spec.store_scratch),
        ("build_dir", &spec.build_dir),
        ("build_scratch", &spec.build_scratch),
        ("cwd", &spec.cwd),
    ] {
        clean(what, path)?;
    }
    if let Some(path) = &spec.content_dir {
        clean("content_dir", path)?;
    }
    for path in &spec.cgroups {
        clean("cgroup", path)?;
    }
    for path in &spec.devices {
        clean("device", path)?;
        if path.parent() != Some(Path::new("/dev")) {
            return Err(format!("{} is no device in /dev", path.display()));
        }
    }
    if let Some((uid, gid)) = spec.host_ids
        && (uid == 0 || gid == 0)
    {
        return Err("host_ids must not be root's".to_owned());
    }
    let dirs = [&spec.store_dir, &spec.build_dir];
    for dir in dirs {
        if dir.as_path() == Path::new("/") || OWN.iter().any(|own| dir.starts_with(own)) {
            return Err(format!("{} cannot be a writable directory", dir.display()));
        }
    }
    if spec.store_dir.starts_with(&spec.build_dir) || spec.build_dir.starts_with(&spec.store_dir) {
        return Err("store_dir and build_dir lie inside each other".to_owned());
    }
    places(spec)?;
    if spec.argv.is_empty() {
        return Err("argv is empty".to_owned());
    }
    let words = spec
        .argv
        .iter()
        .chain(spec.env.iter().flat_map(|(name, value)| [name, value]));
    if words.chain([&spec.program]).any(|word| word.contains(&0)) {
        return Err("program, argv and env must not contain NUL".to_owned());
    }
    if let Some((name, _)) = spec
        .env
        .iter()
        .find(|(name, _)| name.is_empty() || name.contains(&b'='))
    {
        return Err(format!(
            "\"{}\" is no name of an environment variable",
            name.escape_ascii()
        ));
    }
    if spec.hostname.len() > 64 || spec.domainname.len() > 64 {
        return Err("hostname and domainname are at most 64 bytes".to_owned());
    }
    Ok(())
}

/// Every place is given once, none inside another: making a mount point inside an input would write into it.
fn places(spec: &SandboxSpec) -> Result<(), String> {
    // By their bytes: every path is clean, and comparing paths part by part takes longer than mounting them.
    let mut seen = HashSet::new();
    for input in spec.inputs.iter().chain(&spec.extra) {
        clean("source", &input.source)?;
    }
    let targets = spec.inputs.iter().chain(&spec.extra).map(|input| &input.target);
    for path in targets.clone().chain(spec.files.iter().map(|file| &file.path)) {
        clean("target", path)?;
        if path.file_name().is_none() || path == &spec.store_dir {
            return Err(format!("{} cannot be replaced", path.display()));
        }
        if path.starts_with(&spec.build_dir) || OWN.iter().any(|own| path.starts_with(own)) {
            return Err(format!(
                "{} lies in a directory that the sandbox furnishes itself",
                path.display()
            ));
        }
        if spec.store_dir.starts_with(path) || spec.build_dir.starts_with(path) {
            return Err(format!("{} would hide a writable directory", path.display()));
        }
        if !seen.insert(path.as_os_str()) {
            return Err(format!("{} is given twice", path.display()));
        }
    }
    for path in &seen {
        let mut outer = Path::new(path).ancestors().skip(1);
        if let Some(outer) = outer.find(|outer| seen.contains(outer.as_os_str())) {
            return Err(format!("{} lies inside {}", path.display(), outer.display()));
        }
    }
    if let Some(file) = spec
        .files
        .iter()
        .find(|file| file.path.starts_with(&spec.store_dir))
    {
        return Err(format!(
            "file {} would be taken for an output",
            file.path.display()
        ));
    }
    Ok(())
}

fn clean(what: &str, path: &Path) -> Result<(), String> {
    let bytes = path.as_os_str().as_bytes();
    let normal = path
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
        && !bytes
            .split(|&b| b == b'/')
            .skip(1)
            .any(|part| part.is_empty() || part == b"." || part == b"..");
    if path.is_absolute() && normal && !bytes.contains(&0) {
        Ok(())
    } else {
        Err(format!(
            "{what} \"{}\" is not an absolute path without empty parts, . and ..",
            bytes.escape_ascii()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FileSpec, Input, Limits, Network};

    fn spec() -> SandboxSpec {
        SandboxSpec {
            scratch: "/s".into(),
            store_dir: "/nix/store".into(),
            store_scratch: "/s/store".into(),
            build_dir: "/build".into(),
            build_scratch: "/s/build".into(),
            content_dir: None,
            inputs: vec![],
            extra: vec![],
            files: vec![],
            program: b"/bin/sh".to_vec(),
            own: false,
            argv: vec![b"sh".to_vec()],
            env: vec![],
            cwd: "/build".into(),
            uid: 1000,
            gid: 100,
            host_ids: Some((30001, 30000)),
            hostname: "localhost".into(),
            domainname: "(none)".into(),
            i686: false,
            network: Network::Loopback,
            devices: vec![],
            randomize: false,
            processes: None,
            terminals: SandboxSpec::TERMINALS,
            cgroups: vec![],
            limits: Limits::default(),
        }
    }

    fn refused(change: impl FnOnce(&mut SandboxSpec)) {
        let mut it = spec();
        assert!(validate(&it).is_ok());
        change(&mut it);
        assert!(validate(&it).is_err(), "{it:?}");
    }

    fn input(target: &str) -> Input {
        Input {
            target: target.into(),
            source: "/content/a".into(),
        }
    }

    #[test]
    fn unsafe_specifications_are_refused() {
        refused(|it| it.host_ids = Some((0, 5)));
        refused(|it| it.host_ids = Some((5, 0)));
        refused(|it| it.inputs = vec![input("/nix/store/a"), input("/nix/store/a")]);
        refused(|it| it.inputs = vec![input("/nix/store/a"), input("/nix/store/a/b")]);
        refused(|it| {
            it.inputs = vec![
                input("/nix/store/a"),
                input("/nix/store/a-b"),
                input("/nix/store/a/b"),
            ]
        });
        refused(|it| it.inputs = vec![input("/nix/store/../a")]);
        refused(|it| it.inputs = vec![input("/nix/store/./a")]);
        refused(|it| it.inputs = vec![input("/nix/store//a")]);
        refused(|it| it.inputs = vec![input("/nix/store/a/")]);
        refused(|it| it.inputs = vec![input("relative")]);
        refused(|it| it.inputs = vec![input("/nix/store")]);
        refused(|it| it.inputs = vec![input("/nix")]);
        refused(|it| it.extra = vec![input("/dev/kvm")]);
        refused(|it| it.extra = vec![input("/")]);
        refused(|it| {
            it.files = vec![FileSpec {
                path: "/build/x".into(),
                contents: vec![],
                mode: 0o644,
            }];
        });
        refused(|it| {
            it.files = vec![FileSpec {
                path: "/nix/store/x".into(),
                contents: vec![],
                mode: 0o644,
            }];
        });
        refused(|it| it.devices = vec!["/etc/shadow".into()]);
        refused(|it| it.devices = vec!["/dev/../etc".into()]);
        refused(|it| it.devices = vec!["/dev/mapper/a".into()]);
        refused(|it| it.argv = vec![]);
        refused(|it| it.env = vec![(b"A=B".to_vec(), vec![])]);
        refused(|it| it.env = vec![(b"A".to_vec(), vec![0])]);
        refused(|it| it.store_dir = "/build/store".into());
        refused(|it| it.build_dir = "/tmp/x".into());
    }
}
