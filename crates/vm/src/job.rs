//! What a machine is to do: one command, and which of the files it makes are wanted.

use std::collections::BTreeSet;
use std::path::{Component, Path};
use std::time::Duration;

use firn_sandbox::{FileSpec, Input, MAX_SPEC_BYTES, Network, SandboxSpec};
use serde::{Deserialize, Serialize};

use crate::place;
use crate::record::{HEAD, JOB, head};

/// Longest encoded job.
pub const MAX_JOB: usize = 96 << 20;

/// Most outputs.
pub const MAX_OUTPUTS: usize = 1 << 16;

/// One command in a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// What to run, with the guest's places ([`place`]) where the specification asks for paths of the host: the very specification
    /// that the sandbox inside carries out.
    pub sandbox: SandboxSpec,
    /// Files in `build_dir`, directly below it, that belong to the command.
    pub build_files: Vec<FileSpec>,
    /// Names in `store_dir` of what is wanted. They are sent in this order.
    pub outputs: Vec<String>,
    /// Most bytes of all outputs' NARs together.
    pub nar_bytes: u64,
    /// Most processes and threads at a time; `None` for as many as a machine can bear.
    pub processes: Option<u64>,
    /// What the guest's clock shows when it gets this: time since 1970.
    pub now: Duration,
}

/// Why a job is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// Not something that a machine can do.
    #[error("{0}")]
    Invalid(String),
    /// The encoded job is over [`MAX_JOB`], or its specification over [`MAX_SPEC_BYTES`].
    #[error("a job of {0} bytes is too large")]
    TooLarge(usize),
}

impl Job {
    /// Whether a guest can carry it out. What the sandbox itself asks of a specification is checked there.
    ///
    /// # Errors
    /// [`JobError::Invalid`] with the reason.
    pub fn check(&self) -> Result<(), JobError> {
        self.wrong().map_or(Ok(()), |why| Err(JobError::Invalid(why)))
    }

    fn wrong(&self) -> Option<String> {
        let spec = &self.sandbox;
        for (what, path, is) in [
            ("scratch", &spec.scratch, place::SCRATCH),
            ("store_scratch", &spec.store_scratch, place::STORE),
            ("build_scratch", &spec.build_scratch, place::BUILD),
        ] {
            if path != Path::new(is) {
                return Some(format!("{what} is {} and not {is}", path.display()));
            }
        }
        if spec.host_ids != Some(place::IDS) {
            return Some(format!("host_ids are not {:?}", place::IDS));
        }
        if spec.network != Network::Loopback {
            return Some("a machine has no network".to_owned());
        }
        if spec.own {
            return Some("a guest has no program of its own".to_owned());
        }
        if !spec.cgroups.is_empty() || !spec.devices.is_empty() {
            return Some("control groups and devices are the guest's own".to_owned());
        }
        let known = |input: &&Input| {
            input.source == Path::new(place::SHELL) || is_child(&input.source, Path::new(place::INPUTS))
        };
        if let Some(input) = spec.inputs.iter().chain(&spec.extra).find(|input| !known(input)) {
            return Some(format!("{} is not in the image", input.source.display()));
        }
        if let Some(file) = self
            .build_files
            .iter()
            .find(|file| !is_child(&file.path, &spec.build_dir))
        {
            return Some(format!(
                "{} is not directly in the build directory",
                file.path.display()
            ));
        }
        if self.outputs.len() > MAX_OUTPUTS {
            return Some(format!("{} outputs", self.outputs.len()));
        }
        let mut names = BTreeSet::new();
        self.outputs
            .iter()
            .find(|name| !is_name(name) || !names.insert(name.as_str()))
            .map(|name| format!("output '{}'", name.escape_default()))
    }

    /// The record that tells a guest.
    ///
    /// # Errors
    /// [`JobError`] when it is not one that a guest would take.
    pub fn encode(&self) -> Result<Vec<u8>, JobError> {
        self.check()?;
        let mut record = vec![0; HEAD];
        serde_json::to_writer(&mut record, self).map_err(|e| JobError::Invalid(e.to_string()))?;
        let length = record.len() - HEAD;
        // The sandbox inside has a limit of its own.
        let too_large = length > MAX_SPEC_BYTES
            && serde_json::to_vec(&self.sandbox).is_ok_and(|spec| spec.len() > MAX_SPEC_BYTES);
        if length > MAX_JOB || too_large {
            return Err(JobError::TooLarge(length));
        }
        if let Some(start) = record.first_chunk_mut::<HEAD>() {
            *start = head(JOB, length);
        }
        Ok(record)
    }

    /// The length of a record's body, by its head; `None` when it is no job.
    #[must_use]
    pub fn length(head: [u8; HEAD]) -> Option<usize> {
        let [JOB, a, b, c, d] = head else { return None };
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()?;
        (length <= MAX_JOB).then_some(length)
    }

    /// The body of a record.
    ///
    /// # Errors
    /// [`JobError::Invalid`].
    pub fn decode(body: &[u8]) -> Result<Self, JobError> {
        let job: Self = serde_json::from_slice(body).map_err(|e| JobError::Invalid(e.to_string()))?;
        job.check()?;
        Ok(job)
    }
}

fn is_child(path: &Path, parent: &Path) -> bool {
    path.strip_prefix(parent)
        .is_ok_and(|rest| matches!(rest.components().collect::<Vec<_>>()[..], [Component::Normal(_)]))
}

fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && name.len() <= 255 && !name.contains(['/', '\0'])
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use firn_sandbox::Limits;

    pub(crate) fn job() -> Job {
        Job {
            sandbox: SandboxSpec {
                scratch: place::SCRATCH.into(),
                store_dir: "/nix/store".into(),
                store_scratch: place::STORE.into(),
                build_dir: "/build".into(),
                build_scratch: place::BUILD.into(),
                content_dir: None,
                inputs: vec![Input {
                    target: "/nix/store/a".into(),
                    source: "/inputs/a".into(),
                }],
                extra: vec![Input {
                    target: "/bin/sh".into(),
                    source: place::SHELL.into(),
                }],
                files: vec![],
                program: b"/bin/sh".to_vec(),
                own: false,
                argv: vec![b"sh".to_vec(), b"\xff".to_vec()],
                env: vec![],
                cwd: "/build".into(),
                uid: 1000,
                gid: 100,
                host_ids: Some(place::IDS),
                hostname: "localhost".to_owned(),
                domainname: "(none)".to_owned(),
                i686: false,
                network: Network::Loopback,
                devices: vec![],
                randomize: false,
                processes: None,
                terminals: SandboxSpec::TERMINALS,
                cgroups: vec![],
                limits: Limits {
                    wall: Some(Duration::from_secs(60)),
                    silent: None,
                    log_bytes: Some(1000),
                },
            },
            build_files: vec![FileSpec {
                path: "/build/.attrs.json".into(),
                contents: vec![0, 255],
                mode: 0o644,
            }],
            outputs: vec!["out".to_owned(), "dev".to_owned()],
            nar_bytes: 10_000,
            processes: Some(1000),
            now: Duration::from_secs(1_800_000_000),
        }
    }

    #[test]
    fn a_job_comes_out_as_it_went_in() {
        let record = job().encode().unwrap();
        let (start, body) = record.split_first_chunk::<HEAD>().unwrap();
        assert_eq!(Job::length(*start), Some(body.len()));
        assert_eq!(Job::decode(body), Ok(job()));
        assert_eq!(Job::length([0; HEAD]), None);
        assert_eq!(Job::length([JOB, 255, 255, 255, 255]), None);
    }

    #[test]
    fn what_a_guest_cannot_do_is_refused() {
        let refused = |change: fn(&mut Job)| {
            let mut it = job();
            change(&mut it);
            assert!(it.encode().is_err(), "{it:?}");
            assert!(Job::decode(&serde_json::to_vec(&it).unwrap()).is_err());
        };
        refused(|it| it.sandbox.scratch = "/".into());
        refused(|it| it.sandbox.host_ids = None);
        refused(|it| it.sandbox.network = Network::Relayed(firn_sandbox::Relay::default()));
        refused(|it| it.sandbox.own = true);
        refused(|it| it.sandbox.devices = vec!["/dev/vda".into()]);
        refused(|it| it.sandbox.cgroups = vec!["/sys/fs/cgroup".into()]);
        for source in ["/dev/vda", "/inputs", "/inputs/../etc", "/inputs/a/b", "/"] {
            let mut it = job();
            it.sandbox.inputs[0].source = source.into();
            assert!(it.check().is_err(), "{source}");
        }
        refused(|it| it.build_files[0].path = "/build/../x".into());
        refused(|it| it.build_files[0].path = "/build".into());
        refused(|it| it.outputs[1] = "out".to_owned());
        refused(|it| it.outputs[0] = "../x".to_owned());
        refused(|it| it.outputs[0] = "..".to_owned());
        refused(|it| it.outputs[0] = String::new());
    }
}
