//! The command, in the sandbox that it would have without a machine.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

use bytes::Bytes;
use firn_sandbox::HelperCommand;
use tokio::sync::mpsc;

use super::port::Port;
use super::setup;
use crate::job::Job;
use crate::place;
use crate::record::{Pieces, Report};

/// Runs it to its end. The log is sent meanwhile, and completely before this returns.
pub(super) fn run(port: &Port, job: &Job) -> Result<Report, String> {
    let mut spec = job.sandbox.clone();
    spec.cgroups = vec![setup::group()];
    if let Some(processes) = job.processes {
        setup::limit_processes(processes)?;
    }
    build_dir(job).map_err(|e| format!("make the build directory: {e}"))?;
    let helper = HelperCommand::new(place::FIRN).arg("sandbox-exec");
    let (log, mut chunks) = mpsc::channel::<Bytes>(2);
    let exit = std::thread::scope(|scope| {
        let runner = scope.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|e| format!("start the runtime: {e}"))?;
            let run = firn_sandbox::run(&helper, &spec, log, std::future::pending());
            runtime.block_on(run).map_err(|e| e.to_string())
        });
        let mut sent = Ok(());
        while let Some(chunk) = chunks.blocking_recv() {
            // When the host is gone so will this machine be.
            sent = sent.and_then(|()| port.send_pieces(Pieces::Log, &chunk));
        }
        sent.map_err(|e| format!("the port: {e}"))?;
        runner
            .join()
            .unwrap_or_else(|_| Err("the sandbox's thread panicked".to_owned()))
    })?;
    Ok(Report {
        exit,
        oom_kills: count(Path::new("/proc/vmstat"), "oom_kill").unwrap_or_default(),
        refused_processes: count(&setup::group().join("pids.events"), "max").unwrap_or_default(),
        disk_free: rustix::fs::statvfs(place::DISK)
            .map(|fs| fs.f_bavail.saturating_mul(fs.f_frsize))
            .unwrap_or_default(),
    })
}

/// The working directory and its files, which all belong to the command.
fn build_dir(job: &Job) -> io::Result<()> {
    let dir = Path::new(place::BUILD);
    let (uid, gid) = place::IDS;
    for file in &job.build_files {
        let path = dir.join(file.path.file_name().unwrap_or_default());
        fs::write(&path, &file.contents)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(file.mode & 0o777))?;
        chown(&path, Some(uid), Some(gid))?;
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    chown(dir, Some(uid), Some(gid))
}

/// One of the kernel's numbers: a line with a name, a space and the number.
fn count(file: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let mut words = text.lines().filter_map(|line| line.split_once(' '));
    words.find(|(found, _)| *found == name)?.1.trim().parse().ok()
}
