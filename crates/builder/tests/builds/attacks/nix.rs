//! The same attempts in the sandbox of the installed Nix, to be read beside ours.

use std::fmt::Write as _;

use firn_attack::{Column, THREATS};

use super::super::nix::Nix;
use super::backend::Tree;
use super::outside::Outside;
use super::probes::outcomes;

/// A table in Markdown: what must come of each attempt in Firn, and what comes of it in Nix.
pub fn print(nix: &Nix) {
    let tree = Tree::new();
    let outside = Outside::new(tree.path());
    let mut attributes = String::new();
    for (name, value) in outside.variables() {
        writeln!(attributes, "{name} = \"{value}\";").unwrap();
    }
    let (path, drv) = nix.instantiate(&format!(
        r#"let attack = builtins.path {{ path = {}; name = "attack"; }};
        in derivation {{
            name = "attacked"; system = "x86_64-linux"; builder = "${{attack}}/lib/{}";
            args = [ "--library-path" "${{attack}}/lib" "${{attack}}/bin/attack" "probe-all" ];
            inherit attack; {attributes}
        }}"#,
        tree.path().display(),
        firn_attack::LOADER,
    ));
    nix.build(&path, &drv).unwrap();
    let out = firn_nix::StorePath::parse(&drv.basic.env[&b"out"[..]]).unwrap();
    let report = std::fs::read_to_string(nix.real(&out)).unwrap();
    let theirs = outcomes(&report);
    println!("| row | attempt | | root | ordinary user | Nix |\n|---|---|---|---|---|---|");
    let mut alike = 0;
    for threat in THREATS {
        let words = |column| match threat.answer(column) {
            firn_attack::Answer::Is(words) => words.join(" or "),
            firn_attack::Answer::Unseen => "?".to_owned(),
        };
        let nix = theirs[threat.id];
        if threat.answer(Column::Root).allows(nix) {
            alike += 1;
        }
        println!(
            "| {} | {} | {} | {} | {} | {nix} |",
            threat.row,
            threat.id,
            threat.what,
            words(Column::Root),
            words(Column::User)
        );
    }
    println!("{alike} of {} alike", THREATS.len());
    assert_eq!(theirs.len(), THREATS.len());
}
