//! Which host ids the ids inside stand for: exactly one user and one group.

use std::fs;

use rustix::process::Pid;

use super::io_ext::Named;
use crate::SandboxSpec;

/// Write the maps of the user namespace that `child` is in. Done from outside of it, once.
pub(super) fn write(child: Pid, spec: &SandboxSpec) -> Result<(), String> {
    let (host_uid, host_gid) = spec.host_ids.unwrap_or_else(|| {
        (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        )
    });
    let dir = format!("/proc/{}", child.as_raw_nonzero());
    for (file, text) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("{} {host_uid} 1\n", spec.uid)),
        ("gid_map", format!("{} {host_gid} 1\n", spec.gid)),
    ] {
        let path = format!("{dir}/{file}");
        fs::write(&path, &text).named(|| format!("write \"{}\" to {path}", text.trim_end()))?;
    }
    Ok(())
}
