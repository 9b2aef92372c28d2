//! A build in a virtual machine: its inputs packed into an image, its outputs taken as archives.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use firn_content::{ContentStore, IngestOptions, Staged};
use firn_nix::STORE_DIR;
use firn_sandbox::{FileSpec, Input, Limits, Network, SandboxSpec};
use firn_service::ports::Job;
use firn_vm::image::{self, Cache};
use firn_vm::{OutputSink, SinkError, place};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::JoinHandle;

use crate::collect::Seen;
use crate::environment::{BUILD_DIR, Environment};
use crate::layout::{GID, UID, etc, loopback_files};

/// Bytes of an output between the machine and the content store.
const BUFFER: usize = 256 << 10;

const BEHIND: &str = "there is more than a NAR";

/// Where the shell is in an image of inputs. No store path has such a name.
const SHELL: &str = "sh";

/// What is needed for builds in machines.
#[derive(Clone, Debug)]
pub struct Machines {
    /// The kind of machine.
    pub machine: firn_vm::Machine,
    /// Images of inputs.
    pub images: Cache,
    /// Bytes of memory of each machine. A build can see it, so it must follow from the job's class.
    pub memory_bytes: u64,
    /// Content of the shell that every build has as `/bin/sh`.
    pub shell: Option<firn_nix::NarHash>,
}

impl Machines {
    /// The image of a job's inputs. Blocks.
    pub(crate) fn image(&self, job: &Job, content: &ContentStore) -> Result<image::Image, String> {
        let mut trees: Vec<(&[u8], PathBuf, firn_nix::NarHash)> = job
            .inputs
            .objects()
            .map(|o| (o.path.base_name().as_bytes(), content.tree(&o.content), o.content))
            .collect();
        if let Some(shell) = self.shell {
            trees.push((SHELL.as_bytes(), content.tree(&shell), shell));
        }
        let inputs: Vec<image::Input<'_>> = trees
            .iter()
            .map(|(name, path, content)| image::Input {
                entry: image::Entry { name, path },
                content: *content,
            })
            .collect();
        self.images
            .get(&inputs)
            .map_err(|e| format!("packing the inputs of '{}': {e}", job.drv_path))
    }

    /// What the guest is to do.
    pub(crate) fn job(&self, job: &Job, environment: &Environment, outputs: Vec<String>) -> firn_vm::Job {
        let inputs = place::INPUTS;
        let input = |name: &str| Input {
            target: format!("{STORE_DIR}/{name}").into(),
            source: format!("{inputs}/{name}").into(),
        };
        let shell = self.shell.map(|_| Input {
            target: "/bin/sh".into(),
            source: format!("{inputs}/{SHELL}").into(),
        });
        let file = |(name, contents): (&String, &Vec<u8>)| FileSpec {
            path: format!("{BUILD_DIR}/{name}").into(),
            contents: contents.clone(),
            mode: 0o644,
        };
        firn_vm::Job {
            sandbox: SandboxSpec {
                scratch: place::SCRATCH.into(),
                store_dir: STORE_DIR.into(),
                store_scratch: place::STORE.into(),
                build_dir: BUILD_DIR.into(),
                build_scratch: place::BUILD.into(),
                content_dir: None,
                inputs: job.inputs.objects().map(|o| input(o.path.base_name())).collect(),
                extra: shell.into_iter().collect(),
                files: etc().into_iter().chain(loopback_files()).collect(),
                program: environment.program.clone(),
                own: environment.own,
                argv: environment.argv.clone(),
                env: environment.env.clone(),
                cwd: BUILD_DIR.into(),
                uid: UID,
                gid: GID,
                host_ids: Some(place::IDS),
                hostname: "localhost".to_owned(),
                domainname: "(none)".to_owned(),
                i686: job.drv.platform == b"i686-linux",
                network: Network::Loopback,
                devices: Vec::new(),
                randomize: false,
                processes: None,
                terminals: SandboxSpec::TERMINALS,
                cgroups: Vec::new(),
                limits: Limits {
                    wall: Some(job.limits.wall),
                    silent: Some(job.limits.silent),
                    log_bytes: Some(job.limits.log_bytes),
                },
            },
            build_files: environment.files.iter().map(file).collect(),
            outputs,
            nar_bytes: job.limits.output_bytes,
            processes: job.limits.processes,
            now: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        }
    }
}

/// Outputs on their way into the content store, in the order of the job's outputs.
pub(crate) struct Intake<F> {
    content: ContentStore,
    /// Bytes that may still come.
    left: u64,
    /// What to look for in the output of this number.
    seen: F,
    open: Option<Open>,
    pub(crate) taken: Vec<(Staged, Arc<Mutex<Seen>>)>,
}

struct Open {
    to: DuplexStream,
    from: JoinHandle<Result<Staged, SinkError>>,
    seen: Arc<Mutex<Seen>>,
}

impl<F: FnMut(usize) -> Seen + Send> Intake<F> {
    pub(crate) fn new(content: ContentStore, limit: u64, seen: F) -> Self {
        Self {
            content,
            left: limit,
            seen,
            open: None,
            taken: Vec::new(),
        }
    }
}

impl<F: FnMut(usize) -> Seen + Send> OutputSink for Intake<F> {
    async fn begin(&mut self, output: usize) -> Result<(), SinkError> {
        let seen = Arc::new(Mutex::new((self.seen)(output)));
        let (to, mut nar) = duplex(BUFFER);
        let options = IngestOptions {
            expected_size: None,
            expected_hash: None,
            max_size: self.left,
        };
        let (content, observer) = (self.content.clone(), Seen::observer(&seen));
        let from = tokio::spawn(async move {
            let staged = content.ingest(&mut nar, options, Some(observer)).await?;
            match nar.read(&mut [0]).await? {
                0 => Ok(staged),
                _ => Err(BEHIND.into()),
            }
        });
        self.open = Some(Open { to, from, seen });
        Ok(())
    }

    async fn data(&mut self, bytes: Bytes) -> Result<(), SinkError> {
        let Some(open) = &mut self.open else {
            return Err("bytes of no output".into());
        };
        if open.to.write_all(&bytes).await.is_err() {
            // The reader knows better what is wrong.
            return Err(self.close().await.err().unwrap_or_else(|| BEHIND.into()));
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<(), SinkError> {
        self.close().await
    }
}

impl<F> Intake<F> {
    async fn close(&mut self) -> Result<(), SinkError> {
        let Some(Open { to, from, seen }) = self.open.take() else {
            return Err("the end of no output".into());
        };
        drop(to);
        let staged = from.await??;
        self.left = self.left.saturating_sub(staged.size());
        self.taken.push((staged, seen));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn take(bytes: Vec<u8>) -> Result<(), SinkError> {
        let dir = tempfile::tempdir().unwrap();
        let content = ContentStore::open(&dir.path().join("content")).unwrap();
        let mut intake = Intake::new(content, 1 << 20, |_| Seen::nothing());
        intake.begin(0).await?;
        for chunk in bytes.chunks(7) {
            intake.data(Bytes::copy_from_slice(chunk)).await?;
        }
        intake.end().await
    }

    #[tokio::test]
    async fn an_output_is_a_nar_and_nothing_behind_it() {
        let mut nar = Vec::new();
        for word in ["nix-archive-1", "(", "type", "regular", "contents", "hello", ")"] {
            nar.extend((word.len() as u64).to_le_bytes());
            nar.extend(word.as_bytes());
            nar.resize(nar.len().next_multiple_of(8), 0);
        }
        take(nar.clone()).await.unwrap();
        take(nar[..nar.len() - 8].to_vec()).await.unwrap_err();
        nar.push(0);
        assert_eq!(take(nar).await.unwrap_err().to_string(), BEHIND);
    }
}
