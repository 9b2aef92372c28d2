//! What the command made, as archives.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use firn_content::{Stopped, WalkError, WalkLimits, WalkPolicy, WalkProblem, walk};
use firn_nix::nar::NarWriter;

use super::port::Port;
use crate::job::Job;
use crate::place;
use crate::record::{GuestRecord, MAX_BODY, Pieces};

/// Sends all outputs, or which are missing, or what is wrong with the first one that cannot be taken.
pub(super) fn send(port: &Port, job: &Job) -> Result<(), String> {
    let failed = |e: io::Error| format!("the port: {e}");
    let path = |name: &str| Path::new(place::STORE).join(name);
    let number = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
    let mut missing = Vec::new();
    for (index, name) in job.outputs.iter().enumerate() {
        match path(name).symlink_metadata() {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => missing.push(index),
            Err(e) => return Err(format!("output {name}: {e}")),
        }
    }
    for &index in &missing {
        port.send(&GuestRecord::Missing(number(index))).map_err(failed)?;
    }
    if !missing.is_empty() {
        return Ok(());
    }
    let mut left = job.nar_bytes;
    for (index, name) in job.outputs.iter().enumerate() {
        port.send(&GuestRecord::Output(number(index))).map_err(failed)?;
        let last = match archive(port, &path(name), &mut left, job.nar_bytes) {
            Ok(()) => GuestRecord::End,
            Err(Stopped::Walk(error)) => GuestRecord::Rejected(number(index), error),
            Err(Stopped::Visitor(e)) => return Err(failed(e)),
        };
        let rejected = last != GuestRecord::End;
        port.send(&last).map_err(failed)?;
        if rejected {
            break;
        }
    }
    Ok(())
}

fn archive(port: &Port, path: &Path, left: &mut u64, limit: u64) -> Result<(), Stopped<io::Error>> {
    let policy = WalkPolicy::BuildOutput { owner: place::IDS.0 };
    let limits = WalkLimits {
        bytes: *left,
        ..WalkLimits::default()
    };
    let sender = Sender {
        port,
        left,
        full: false,
    };
    let mut writer = NarWriter::new(BufWriter::with_capacity(MAX_BODY, sender));
    let walked = walk(path, policy, limits, &mut writer);
    let mut buffer = writer.into_inner();
    let flushed = buffer.flush();
    let full = buffer.get_ref().full;
    // Not to be flushed again when it is dropped.
    let _ = buffer.into_parts();
    match walked {
        _ if full => Err(Stopped::Walk(WalkError {
            path: Vec::new(),
            problem: WalkProblem::Bytes(limit),
        })),
        Err(stopped) => Err(stopped),
        Ok(()) => flushed.map_err(Stopped::Visitor),
    }
}

/// Sends what is written to it, as much as may be.
struct Sender<'a> {
    port: &'a Port,
    left: &'a mut u64,
    full: bool,
}

impl Write for Sender<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len() as u64;
        if length > *self.left {
            self.full = true;
            return Err(io::ErrorKind::StorageFull.into());
        }
        *self.left -= length;
        self.port.send_pieces(Pieces::Nar, bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
