//! What a virtual machine costs: packing its inputs, beside `mkfs.erofs`, and starting it.
//!
//! `cargo xtask bench --only sandbox` runs this. Machines run without the processor's help (TCG).

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench that cannot run says so by panicking"
)]

#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/machine/fixture.rs"]
mod fixture;

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use firn_content::WalkLimits;
use firn_vm::image::{Entry, write};
use firn_vm::{Order, Resources};
use fixture::{Archives, Fixture, OUT, shared};

const ROUNDS: usize = 5;
/// Trees, files of each, and the sizes that they have in turn.
const TREES: usize = 100;
const FILES: usize = 100;
const SIZES: [usize; 5] = [300, 2_000, 9_000, 30_000, 80_000];

fn main() {
    images();
    boots();
}

fn images() {
    let dir = tempfile::tempdir().unwrap();
    let trees = dir.path().join("trees");
    let mut bytes = 0;
    for tree in 0..TREES {
        let tree = trees.join(format!("tree-{tree}"));
        fs::create_dir_all(&tree).unwrap();
        for file in 0..FILES {
            let size = SIZES[file % SIZES.len()];
            fs::write(tree.join(format!("file-{file}")), vec![file as u8; size]).unwrap();
            bytes += size;
        }
    }
    let names: Vec<(Vec<u8>, std::path::PathBuf)> = (0..TREES)
        .map(|tree| {
            (
                format!("tree-{tree}").into_bytes(),
                trees.join(format!("tree-{tree}")),
            )
        })
        .collect();
    let entries: Vec<Entry<'_>> = names.iter().map(|(name, path)| Entry { name, path }).collect();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let image = dir.path().join("image");
        let began = Instant::now();
        write(&entries, &create(&image), WalkLimits::default()).unwrap();
        ours.push(began.elapsed().as_secs_f64());
        fs::remove_file(&image).unwrap();
        let began = Instant::now();
        let made = Command::new("mkfs.erofs")
            .args(["-T1", "--all-root"])
            .args([&image, &trees])
            .output();
        theirs.push(began.elapsed().as_secs_f64());
        assert!(made.unwrap().status.success());
        fs::remove_file(&image).unwrap();
    }
    let megabytes = bytes as f64 / 1e6;
    let ratio = median(ours.iter().zip(&theirs).map(|(o, t)| o / t).collect());
    println!(
        "packing {} files, {megabytes:.0} MB: {:.2} ms/MB; mkfs.erofs {:.2} ms/MB; Firn / mkfs.erofs {ratio:.2}",
        TREES * FILES,
        median(ours) * 1e3 / megabytes,
        median(theirs) * 1e3 / megabytes,
    );
}

fn create(path: &Path) -> File {
    File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .unwrap()
}

fn boots() {
    let Some(prepared) = shared() else { return };
    let it = Fixture::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (mut ready, mut whole, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let job = it.job("echo done > $out", &[OUT]);
        let order = Order {
            job: &job,
            image: &it.at("inputs"),
            work: &it.work(),
            disk: None,
            host_ids: it.root.then_some((it.uid, it.uid)),
            cgroups: &[],
            resources: Resources {
                memory_bytes: 512 << 20,
                cpus: 1,
                disk_bytes: 20 << 30,
            },
        };
        let (log, _) = tokio::sync::mpsc::channel(1);
        let mut sink = Archives::default();
        let run = prepared
            .machine
            .run(order, log, &mut sink, std::future::pending());
        let exit = runtime.block_on(run).unwrap();
        assert!(exit.exit.success(), "{exit:?}");
        whole.push(began.elapsed().as_secs_f64());
        ready.push(exit.boot.as_secs_f64());
        cpu.push((exit.machine.user + exit.machine.system).as_secs_f64());
    }
    println!(
        "a machine without the processor's help (TCG): ready after {:.2} s, a trivial build {:.2} s, {:.2} CPU s of QEMU",
        median(ready),
        median(whole),
        median(cpu)
    );
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
