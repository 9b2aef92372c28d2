//! The same builds in virtual machines. Each costs a boot without the help of the processor, so there are few.

use std::time::Duration;

use firn_builder::Machines;
use firn_content::WalkLimits;
use firn_core::Isolation;
use firn_service::ports::RunFailure;
use firn_vm::image::{Cache, CacheOptions};
use firn_vm::{Accelerator, Machine, MachineOptions, PrepareError, PrepareOptions, find_qemu};

use super::Pair;
use super::firn::{Firn, helper, helper_path};

/// Machines in a directory; none, with the reason printed, where QEMU or the kernel's package cannot be had.
pub fn machines(firn: &Firn) -> Option<Machines> {
    let Some(qemu) = find_qemu() else {
        println!("skipped: there is no qemu-system-x86_64 here (cargo xtask test installs it)");
        return None;
    };
    let dir = firn.dir.path().join("machine");
    match firn_vm::prepare(&dir, &PrepareOptions::new(helper_path())) {
        Ok(_) => {}
        Err(e @ (PrepareError::Start { .. } | PrepareError::Program { .. })) => {
            println!("skipped: no machine can be prepared here: {e}");
            return None;
        }
        Err(e) => panic!("{e}"),
    }
    let options = MachineOptions {
        helper: helper(),
        qemu,
        accelerator: Accelerator::Tcg,
        boot: Duration::from_secs(180),
    };
    let images = CacheOptions {
        budget: 1 << 30,
        patience: Duration::from_secs(60),
        limits: WalkLimits::default(),
    };
    Some(Machines {
        machine: Machine::open(&dir, options).unwrap(),
        images: Cache::open(&firn.dir.path().join("images"), images).unwrap(),
        memory_bytes: 512 << 20,
        shell: None,
    })
}

/// Files, directories, links, modes, references to inputs and to itself, two outputs, and what a build finds in its directory.
const MUCH: &str = r#"sh "much" ''
    mkdir -p $out/bin $out/empty $dev
    printf '#!%s\necho %s\n' "$PATH/sh" "$out" > $out/bin/tool
    chmod 755 $out/bin/tool
    ln -s bin/tool $out/link
    cat "$textPath" > $dev/text
    echo "$out" > $dev/reference
    id > $dev/id
    echo $NIX_BUILD_CORES > $dev/cores
  '' { outputs = [ "out" "dev" ]; text = "passed as a file\n"; passAsFile = [ "text" ]; }"#;

#[tokio::test]
async fn in_a_machine_as_in_nix() {
    let Some(mut pair) = Pair::new() else { return };
    let Some(machines) = machines(&pair.firn) else {
        return;
    };
    pair.firn = pair.firn.with(Some(machines));
    let (path, drv) = pair.nix.instantiate(MUCH);
    let inputs = pair.firn.import(&pair.nix, &drv).await;
    let expected = pair.nix.build(&path, &drv).unwrap();
    let mut job = pair.firn.job(&path, &drv, inputs);
    job.isolation = Isolation::Vm;
    let (built, report) = pair.firn.report(job.clone()).await;
    let built = built.unwrap();
    for (name, object) in &built {
        let (hash, references) = &expected[name];
        assert_eq!(
            (&object.content.hex(), &object.references),
            (hash, references),
            "{name}"
        );
    }
    assert!(
        report.memory_peak.is_some_and(|peak| peak > 32 << 20),
        "{report:?}"
    );
    assert!(pair.firn.is_tidy());

    // Without machines it is refused, not run in something weaker.
    pair.firn = pair.firn.with(None);
    let refused = pair.firn.run(job).await;
    assert!(
        matches!(&refused, Err(RunFailure::Infrastructure(text)) if text.contains("virtual machine")),
        "{refused:?}"
    );
}
