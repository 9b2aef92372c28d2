//! What a hostile build tries, and what must come of it. For tests only.
//!
//! The program runs as a builder, in any sandbox: Firn's namespaces, a virtual machine, Nix's own sandbox. `attack ID` makes one harmless
//! attempt and prints what came of it; `attack probe-all` makes all of them, one line each, and writes the same to `$out`; `attack do ID` does
//! a destructive thing, and `attack several [probe-all] ID…` one after the other, `attack meanwhile ID ID` two at once,
//! where a build is dear. [`THREATS`] and [`DEEDS`] say for each backend what must come of it; the tests that run builds compare.
//!
//! It refuses to know how it is run: no store, no derivation, no sandbox. What it should look for outside comes in variables (see [`host`]).
//!
//! ```
//! let threat = firn_attack::THREATS.iter().find(|threat| threat.id == "io-uring").unwrap();
//! assert!(threat.answer(firn_attack::Column::Root).allows("denied:ENOSYS"));
//! ```

mod deeds;
pub mod host;
mod isolate;
mod neighbours;
mod outcome;
mod probes;
mod raw;
mod table;
mod tree;

use std::process::ExitCode;

pub use deeds::{DEEDS, Deed, Ending, Need};
pub use neighbours::{
    GREEDY_READY, INPUTS_OF_AN_OVERLAY, MOUNTED_INPUTS, OWN, SECRET, VICTIM_DISTURBED, VICTIM_READY,
    VICTIM_WELL, WAYS,
};
pub use outcome::Outcome;
pub use table::{Answer, Column, THREATS, Threat};
pub use tree::{LOADER, tree};

/// The body of the program.
#[must_use]
pub fn main() -> ExitCode {
    probes::host::remember_descriptors();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match *words {
        ["probe-all"] => probe_all(),
        ["do", id] => match DEEDS.iter().find(|deed| deed.id == id) {
            Some(deed) => deed.carry_out(),
            None => usage(),
        },
        ["several", "probe-all", ref ids @ ..] => {
            // Before anything disturbs them.
            probe_all();
            deeds::several(ids)
        }
        ["several", ref ids @ ..] => deeds::several(ids),
        ["meanwhile", first, second] => deeds::meanwhile(first, second),
        ["victim"] => neighbours::victim(),
        ["seeker"] => neighbours::seeker(),
        ["duel", own, other, seconds] => neighbours::duel(own, other, seconds),
        ["greedy"] => neighbours::greedy(),
        ["needy"] => neighbours::needy(),
        [id] => match THREATS.iter().find(|threat| threat.id == id) {
            Some(threat) => {
                println!("{} {}", threat.id, isolate::run(threat.probe));
                ExitCode::SUCCESS
            }
            None => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("attack probe-all | attack THREAT | attack do DEED | attack several [probe-all] DEED…");
    eprintln!("attack meanwhile DEED DEED");
    eprintln!("attack victim | attack seeker | attack greedy | attack needy | attack duel NAME NAME SECONDS");
    eprintln!(
        "threats: {}",
        THREATS
            .iter()
            .map(|threat| threat.id)
            .collect::<Vec<_>>()
            .join(" ")
    );
    eprintln!(
        "deeds: {}",
        DEEDS.iter().map(|deed| deed.id).collect::<Vec<_>>().join(" ")
    );
    ExitCode::FAILURE
}

fn probe_all() -> ExitCode {
    let mut report = String::new();
    for threat in THREATS {
        let line = format!("{} {}\n", threat.id, isolate::run(threat.probe));
        print!("{line}");
        report.push_str(&line);
    }
    match std::env::var_os("out").map(|out| std::fs::write(out, report)) {
        Some(Err(error)) => {
            eprintln!("writing the report: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
