//! Virtual machines: `firn vm prepare`, and what `firn serve` and `firn doctor` make of `[vm]`.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use firn_builder::Machines;
use firn_content::WalkLimits;
use firn_nix::NarHash;
use firn_sandbox::HelperCommand;
use firn_vm::image::{Cache, CacheOptions};
use firn_vm::{Accelerator, KernelSource, Machine, MachineOptions, PrepareOptions};

use crate::config::{Config, VmAccelerator};
use crate::options::VmCommand;
use crate::output;

/// How long one build waits for another one to pack the same inputs.
const PACKING: Duration = Duration::from_secs(600);

impl From<VmAccelerator> for Accelerator {
    fn from(accelerator: VmAccelerator) -> Self {
        match accelerator {
            VmAccelerator::Kvm => Self::Kvm,
            VmAccelerator::Tcg => Self::Tcg,
        }
    }
}

/// Carries out `firn vm …`.
pub fn vm(config: &Config, command: &VmCommand) -> anyhow::Result<ExitCode> {
    let VmCommand::Prepare { kernel } = command;
    let guest = std::env::current_exe().context("cannot find this program's file")?;
    let mut options = PrepareOptions::new(guest);
    if let Some(file) = kernel {
        options.kernel = KernelSource::File(file.clone());
    }
    let dir = dir(config);
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.data_dir)
        .with_context(|| format!("cannot make the data directory {}", config.data_dir.display()))?;
    let manifest = firn_vm::prepare(&dir, &options).context("cannot prepare virtual machines")?;
    output::print(&format!(
        "prepared {} in {}; to use it: [build] sandboxes = [\"vm\"], then restart the service",
        manifest.kernel_package,
        dir.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Bytes that one takes of this machine.
pub fn memory(config: &Config) -> u64 {
    config.vm.memory.saturating_add(firn_builder::QEMU_MEMORY)
}

/// The files that every machine starts from.
pub fn dir(config: &Config) -> PathBuf {
    config.data_dir.join("machine")
}

/// What builds in machines need, with the name of what they see there; or why there are none.
pub fn open(config: &Config, shell: Option<NarHash>) -> anyhow::Result<(Machines, String)> {
    let own = std::env::current_exe().context("cannot find this program's file")?;
    let vm = &config.vm;
    let qemu = match &vm.qemu {
        Some(qemu) => qemu.clone(),
        None => firn_vm::find_qemu().context("there is no qemu-system-x86_64 here; install it")?,
    };
    let options = MachineOptions {
        helper: HelperCommand::new(&own).arg("sandbox-exec"),
        qemu,
        accelerator: vm.accelerator.into(),
        boot: Duration::from_secs(vm.boot_timeout),
    };
    let machine = Machine::open(&dir(config), options).context("run `firn vm prepare`, and `firn doctor`")?;
    if !machine.manifest().is_of(&own)? {
        anyhow::bail!("machines were prepared with another version of Firn; run `firn vm prepare`");
    }
    let images = CacheOptions {
        budget: vm.image_cache,
        patience: PACKING,
        limits: WalkLimits::default(),
    };
    let images = Cache::open(&config.data_dir.join("images"), images).context("images of inputs")?;
    // A build sees the memory of its machine, and its processor.
    let accelerator = Accelerator::from(vm.accelerator).to_string().to_lowercase();
    let class = format!("{}/{accelerator}/{}", machine.manifest().class(), vm.memory);
    let machines = Machines {
        machine,
        images,
        memory_bytes: vm.memory,
        shell,
    };
    Ok((machines, class))
}
