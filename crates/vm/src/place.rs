//! Where things are in the guest, for whoever writes a [`Job`](crate::Job)'s specification.

/// `scratch` of the specification.
pub const SCRATCH: &str = "/scratch/sandbox";

/// `store_scratch`.
pub const STORE: &str = "/scratch/store";

/// `build_scratch`.
pub const BUILD: &str = "/scratch/build";

/// The root directory of the image of inputs. Sources of inputs are names in it.
pub const INPUTS: &str = "/inputs";

/// A static shell: the source of `/bin/sh`.
pub const SHELL: &str = "/bin/busybox";

/// `host_ids`: user and group that own what the command makes. They mean nothing outside of the guest.
pub const IDS: (u32, u32) = (30_000, 30_000);

/// The executable that a machine is prepared with.
pub(crate) const FIRN: &str = "/bin/firn";
pub(crate) const MKE2FS: &str = "/sbin/mke2fs";
/// Mount point of the disk.
pub(crate) const DISK: &str = "/scratch";
/// The control group of the command.
pub(crate) const GROUPS: &str = "/sys/fs/cgroup";

/// Serial numbers of the disks.
pub(crate) const TOOLS_SERIAL: &str = "tools";
pub(crate) const INPUTS_SERIAL: &str = "inputs";
pub(crate) const DISK_SERIAL: &str = "scratch";

/// Name of the serial port to the host.
pub(crate) const PORT: &str = "firn";
