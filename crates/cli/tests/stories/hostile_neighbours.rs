//! Builds of two accounts at the same time, each of which looks for the other one, signals it, fills what it could write to, and takes what the
//! kernel counts. Both end as if they were alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use firn_attack::{INPUTS_OF_AN_OVERLAY, OWN, WAYS};

use crate::{Client, Server, answers, build, is_valid, server};

/// More than one, whatever the machine has.
const CONFIG: &str = "[build]\nmax-jobs = 2\n";
/// Lives of the two, in seconds: longer when they did not meet.
const LIVES: [u32; 4] = [4, 15, 60, 240];

#[test]
fn two_accounts_builds_end_as_if_alone() {
    if !rustix::process::geteuid().is_root() {
        eprintln!(
            "skipped: an ordinary user's builds are all one user's; what holds for them is shown by firn-builder's attacks"
        );
        return;
    }
    let Some(mut server) = server() else { return };
    server.configure(CONFIG).unwrap();
    server.stop();
    server.launch().unwrap();
    let clients = ["alice", "bob"].map(|name| server.client(name).unwrap());
    let [alice, bob] = &clients;
    let program = Program::new();

    let alone = program.run(&server, alice, ["alice", "bob"], 0);
    let expected = WAYS.iter().chain(&INPUTS_OF_AN_OVERLAY).chain(&OWN);
    let expected: BTreeSet<String> = expected
        .map(|(way, outcome)| format!("{way} {outcome}"))
        .collect();
    let told: BTreeSet<String> = alone.text.lines().skip(1).map(str::to_owned).collect();
    assert_eq!(told, expected);

    for life in LIVES {
        let [first, second] = std::thread::scope(|scope| {
            let bobs = scope.spawn(|| program.run(&server, bob, ["bob", "alice"], life));
            let alices = program.run(&server, alice, ["alice", "bob"], life);
            [alices, bobs.join().unwrap()]
        });
        println!("{life} s: {first:?} {second:?}");
        assert_eq!(first.text, alone.text);
        assert_eq!(second.text, alone.text.replacen("alice", "bob", 1));
        assert_ne!(first.user, second.user);
        assert!(first.user != 0 && second.user != 0);
        // Nor is there anything of the one in what the other account has.
        assert!(!is_valid(alice, &second.path) && !is_valid(bob, &first.path));
        if first.has_a_round_within(&second) && second.has_a_round_within(&first) {
            for account in ["alice", "bob"] {
                assert!(answers(&server, account).iter().all(|(rung, _)| rung == "built"));
            }
            return;
        }
    }
    panic!("the two never ran at the same time");
}

/// The program as an input.
struct Program(tempfile::TempDir);

impl Program {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        let program = example();
        firn_attack::tree(&program, tree.0.path(), &["data", "alice", "bob"]).unwrap();
        tree
    }

    /// Builds the first one, who knows of the second.
    fn run(&self, server: &Server, client: &Client, names: [&str; 2], life: u32) -> Lived {
        let [own, other] = names;
        let expression = format!(
            r#"let attack = builtins.path {{ path = {}; name = "attack"; }};
            in derivation {{
                name = "neighbour"; system = "x86_64-linux"; builder = "${{attack}}/lib/{}";
                args = [ "--library-path" "${{attack}}/lib" "${{attack}}/bin/attack" "duel" "{own}" "{other}" "{life}" ];
                inherit attack; {} = "{}";
            }}"#,
            self.0.path().display(),
            firn_attack::LOADER,
            firn_attack::host::DIR,
            server.data_dir().join("builds").display(),
        );
        let run = build(client, "ssh-ng", &expression).success().unwrap();
        Lived::new(client, own, run.lines().remove(0), &run.stderr)
    }
}

/// An example of this package.
fn example() -> PathBuf {
    let firn = Path::new(env!("CARGO_BIN_EXE_firn"));
    let program = firn.with_file_name("examples").join("stories-attack");
    assert!(
        program.exists(),
        "{} is built by `cargo build -p firn --examples`",
        program.display()
    );
    program
}

/// A build that has ended.
#[derive(Debug)]
struct Lived {
    path: String,
    text: String,
    user: u32,
    ready: u64,
    rounds: BTreeMap<u64, u64>,
    over: u64,
}

impl Lived {
    /// `log` has its times.
    fn new(client: &Client, own: &str, path: String, log: &str) -> Self {
        let said = |what: &str| -> Vec<Vec<u64>> {
            let start = format!("{own}: {what} ");
            let rests = log.lines().filter_map(|line| Some(line.split_once(&start)?.1));
            rests
                .map(|rest| {
                    rest.split_whitespace()
                        .map(|word| word.parse().unwrap())
                        .collect()
                })
                .collect()
        };
        Self {
            text: std::fs::read_to_string(client.nix.on_disk(&path)).unwrap(),
            path,
            user: said("user")[0][0].try_into().unwrap(),
            ready: said("ready")[0][0],
            rounds: said("round")
                .into_iter()
                .map(|times| (times[0], times[1]))
                .collect(),
            over: said("over")[0][0],
        }
    }

    fn has_a_round_within(&self, other: &Self) -> bool {
        let mut rounds = self.rounds.iter();
        rounds.any(|(begin, end)| *begin > other.ready && *end < other.over)
    }
}
