//! QEMU's command line, and the sandbox that it runs in.
//!
//! The sandbox is that of a build: its own user, no capabilities, an empty root with the system's programs in it, no network, a
//! system call filter. Whoever breaks out of the machine finds themselves in there.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use firn_sandbox::{Input, Limits, Network, SandboxSpec};

use super::workplace::{DISK, PORT, Workplace};
use super::{Accelerator, MachineOptions, Order, Resources};
use crate::place::{self, DISK_SERIAL, INPUTS_SERIAL, TOOLS_SERIAL};
use crate::prepare::Prepared;

/// What QEMU can write to, as it sees it.
const MACHINE: &str = "/machine";
const KERNEL: &str = "/firn/kernel";
const INITRD: &str = "/firn/initrd";
const TOOLS: &str = "/firn/tools";
const INPUTS: &str = "/firn/inputs";
const QEMU: &str = "/firn/qemu";

/// Where QEMU, its libraries and its firmware are, in most distributions; what exists of them.
const SYSTEM: [&str; 4] = ["/usr", "/bin", "/lib", "/lib64"];
/// In the others: mounted when QEMU is in there. Where it is elsewhere, it comes alone.
const STORES: [&str; 2] = ["/nix/store", "/gnu/store"];

/// Everything about the process of one machine.
pub(super) fn sandbox(
    options: &MachineOptions,
    prepared: &Prepared,
    order: &Order<'_>,
    workplace: &Workplace,
    host_ids: Option<(u32, u32)>,
) -> SandboxSpec {
    let input = |target: &str, source: &Path| Input {
        target: target.into(),
        source: source.into(),
    };
    let stores = STORES.into_iter().filter(|path| options.qemu.starts_with(path));
    let system = SYSTEM
        .into_iter()
        .filter(|path| Path::new(path).symlink_metadata().is_ok())
        .chain(stores)
        .map(|path| input(path, Path::new(path)));
    let known = SYSTEM
        .iter()
        .chain(&STORES)
        .any(|path| options.qemu.starts_with(path));
    let alone = (!known).then(|| input(QEMU, &options.qemu));
    let files = [
        (KERNEL, prepared.kernel()),
        (INITRD, prepared.initrd()),
        (TOOLS, prepared.tools()),
        (INPUTS, order.image.to_owned()),
    ];
    let program = if known {
        options.qemu.as_path()
    } else {
        Path::new(QEMU)
    };
    let program = program.as_os_str().as_bytes().to_vec();
    let args = arguments(options.accelerator, &order.resources);
    let kvm = options.accelerator == Accelerator::Kvm;
    SandboxSpec {
        scratch: workplace.scratch.clone(),
        store_dir: "/store".into(),
        store_scratch: workplace.store.clone(),
        build_dir: MACHINE.into(),
        build_scratch: workplace.machine.clone(),
        content_dir: None,
        inputs: Vec::new(),
        extra: system
            .chain(alone)
            .chain(files.iter().map(|(target, source)| input(target, source)))
            .collect(),
        files: Vec::new(),
        argv: std::iter::once(program.clone())
            .chain(args.into_iter().map(String::into_bytes))
            .collect(),
        program,
        own: false,
        env: Vec::new(),
        cwd: MACHINE.into(),
        uid: 1000,
        gid: 100,
        host_ids,
        hostname: "localhost".to_owned(),
        domainname: "(none)".to_owned(),
        i686: false,
        network: Network::Loopback,
        devices: if kvm { vec!["/dev/kvm".into()] } else { Vec::new() },
        randomize: true,
        processes: None,
        terminals: SandboxSpec::TERMINALS,
        cgroups: order.cgroups.to_vec(),
        limits: Limits::default(),
    }
}

fn arguments(accelerator: Accelerator, resources: &Resources) -> Vec<String> {
    let (accel, cpu) = match accelerator {
        Accelerator::Kvm => ("kvm", "host"),
        Accelerator::Tcg => ("tcg", "max"),
    };
    let mut args: Vec<String> = Vec::new();
    let mut option = |name: &str, value: String| args.extend([name.to_owned(), value]);
    option("-M", format!("microvm,accel={accel},auto-kernel-cmdline=off"));
    option("-cpu", cpu.to_owned());
    option("-m", format!("{}M", resources.memory_bytes.div_ceil(1 << 20)));
    option("-smp", resources.cpus.max(1).to_string());
    option(
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny".to_owned(),
    );
    option("-display", "none".to_owned());
    option("-serial", "stdio".to_owned());
    option("-global", "virtio-mmio.force-legacy=false".to_owned());
    option("-kernel", KERNEL.to_owned());
    option("-initrd", INITRD.to_owned());
    option("-append", kernel_arguments(accelerator));
    let shared = "readonly=on,file.locking=off";
    // The disk does not outlive the machine, so nothing has to reach the host's disk in order.
    for (serial, file, how) in [
        (TOOLS_SERIAL, TOOLS, shared),
        (INPUTS_SERIAL, INPUTS, shared),
        (
            DISK_SERIAL,
            &*format!("{MACHINE}/{DISK}"),
            "cache=unsafe,discard=unmap",
        ),
    ] {
        option(
            "-drive",
            format!("id={serial},file={file},format=raw,if=none,{how}"),
        );
        option(
            "-device",
            format!("virtio-blk-device,drive={serial},serial={serial}"),
        );
    }
    option("-device", "virtio-serial-device,max_ports=2".to_owned());
    option("-chardev", format!("socket,id=port,path={MACHINE}/{PORT}"));
    option(
        "-device",
        format!("virtserialport,chardev=port,name={},nr=1", place::PORT),
    );
    args.extend(["-nodefaults", "-no-user-config", "-no-reboot"].map(str::to_owned));
    args
}

/// Builds can read these in /proc/cmdline, so they are the same for all.
///
/// Only one tenant's processes are in a guest, so it need not protect itself from them.
fn kernel_arguments(accelerator: Accelerator) -> String {
    let all = "console=ttyS0 quiet panic=-1 reboot=t mitigations=off";
    match accelerator {
        Accelerator::Kvm => all.to_owned(),
        // On a busy host the timers of a translated machine are too irregular to be measured against each other.
        Accelerator::Tcg => {
            format!(
                "{all} tsc_early_khz={} lpj=4000000 no_timer_check",
                clock_kilohertz()
            )
        }
    }
}

/// The rate of the host's time stamp counter, or something near it; a wrong one skews the guest's clock.
fn clock_kilohertz() -> u64 {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let megahertz = info
        .lines()
        .find_map(|line| {
            line.strip_prefix("cpu MHz")?
                .split_once(':')?
                .1
                .trim()
                .parse()
                .ok()
        })
        .unwrap_or(2_500.0_f64);
    (megahertz * 1000.0) as u64
}

/// Names of QEMU's executable that are looked for.
const NAMES: [&str; 1] = ["qemu-system-x86_64"];

/// QEMU in the usual places.
#[must_use]
pub fn find_qemu() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs =
        std::env::split_paths(&path).chain(["/usr/bin", "/run/current-system/sw/bin"].map(PathBuf::from));
    dirs.flat_map(|dir| NAMES.map(|name| dir.join(OsStr::new(name))))
        .find(|path| path.is_absolute() && path.is_file())
}
