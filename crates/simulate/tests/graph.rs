//! Graphs from folders, and what is written about them.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use clap::Parser;
use firn_simulate::command::{Args, CommandError, run};
use firn_simulate::{
    Graph, GraphError, Order, Params, Population, Scenario, Share, Step, TargetRange, World, simulate,
};

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    args: Args,
}

fn name(drv: &str) -> String {
    format!("{:0>32}-{drv}.drv", drv.len())
}

/// A derivation file; `hash` makes its output fixed.
fn write(folder: &Path, drv: &str, hash: Option<&str>, inputs: &[&str]) {
    let inputs: Vec<String> = inputs
        .iter()
        .map(|input| format!("(\"/nix/store/{}\",[\"out\"])", name(input)))
        .collect();
    let (algo, hash) = hash.map_or(("", ""), |hash| ("sha256", hash));
    let text = format!(
        "Derive([(\"out\",\"/nix/store/{:0>32}-{drv}\",\"{algo}\",\"{hash}\")],[{}],[],\"x\",\"/bin/sh\",[],[])",
        drv.len(),
        inputs.join(",")
    );
    std::fs::write(folder.join(name(drv)), text).unwrap();
}

#[test]
fn a_folder_becomes_a_graph() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(folder, "a", Some(&"0".repeat(64)), &[]);
    write(folder, "bb", None, &["a"]);
    write(folder, "ccc", None, &["a", "bb"]);
    std::fs::write(folder.join("README"), "no derivation").unwrap();
    let graph = Graph::read(folder).unwrap();
    assert_eq!((graph.len(), graph.edges()), (3, 3));
    assert_eq!(
        graph.drvs().map(|d| graph.is_fixed(d)).collect::<Vec<_>>(),
        [true, false, false]
    );
    assert_eq!(
        (graph.name(0), graph.inputs(2), graph.targets()),
        (name("a").as_str(), &[0, 1][..], &[2][..])
    );
}

#[test]
fn what_is_no_graph_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert!(matches!(Graph::read(folder), Err(GraphError::Empty(_))));
    write(folder, "a", None, &["bb"]);
    assert!(matches!(Graph::read(folder), Err(GraphError::Missing { input, .. }) if input == name("bb")));
    write(folder, "bb", None, &["a"]);
    assert!(matches!(Graph::read(folder), Err(GraphError::Cycle(_))));
    std::fs::write(folder.join(name("bb")), "Derive(").unwrap();
    assert!(matches!(Graph::read(folder), Err(GraphError::Malformed { name: n, .. }) if n == name("bb")));
    assert!(matches!(
        Graph::read(&folder.join("none")),
        Err(GraphError::Read { .. })
    ));
}

#[test]
fn a_graph_without_targets_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a", Some(&"0".repeat(64)), &[]);
    let options = Options::parse_from(["x", "--graph", folder.path().to_str().unwrap()]);
    assert!(matches!(run(&options.args), Err(CommandError::NoTargets)));
}

#[test]
fn the_command_writes_what_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let line = "x --synthetic 300 --accounts 1,20 --reproducible 90,100 --cached 20 --repeat 2";
    let mut line: Vec<String> = line.split(' ').map(str::to_owned).collect();
    line.extend(["--csv".into(), file("a.csv"), "--svg".into(), file("a.svg")]);
    let args = Options::parse_from(line).args;
    let text = run(&args).unwrap();
    assert_eq!(text, run(&args).unwrap(), "the seed decides");
    assert_eq!(text.lines().filter(|l| l.contains(" %  ")).count(), 8, "{text}");
    let csv = std::fs::read_to_string(file("a.csv")).unwrap();
    let widths: Vec<usize> = csv.lines().map(|l| l.split(',').count()).collect();
    assert_eq!(widths, [widths[0]; 17], "{csv}");
    let svg = std::fs::read_to_string(file("a.svg")).unwrap();
    assert_eq!(svg.matches("<polyline class=\"line").count(), 3, "{svg}");
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && !svg.contains("NaN"));
}

#[test]
fn arguments_out_of_range_are_refused() {
    for bad in [
        "--reproducible 101",
        "--local x",
        "--targets 0",
        "--targets 3-2",
        "--accounts 0",
        "--zipf -1",
        "--repeat 0",
        "--order own",
    ] {
        let line = std::iter::once("x").chain(bad.split(' '));
        assert!(Options::try_parse_from(line).is_err(), "{bad}");
    }
}

#[test]
fn without_uploads_every_derivation_runs_once_however_unreproducible() {
    let graph = Graph::synthetic(500, 3);
    let params = Params {
        local: Share::percent(0.0),
        reproducible: Share::percent(0.0),
        ..Params::default()
    };
    let outcome = simulate(&graph, &params);
    assert_eq!(outcome.ordinary.built, outcome.ordinary.distinct);
    assert_eq!(outcome.fixed.built, outcome.fixed.distinct);
}

#[test]
fn for_remote_stores_every_derivation_runs_once_whatever_is_reproducible_or_built_elsewhere() {
    let graph = Graph::synthetic(500, 3);
    let at = |percent: f64, stores, cached| {
        let share = Share::percent(percent);
        let (stores, cached) = (Share::percent(stores), Share::percent(cached));
        let (reproducible, local) = (share, share);
        simulate(
            &graph,
            &Params {
                reproducible,
                local,
                stores,
                cached,
                ..Params::default()
            },
        )
    };
    for cached in [0.0, 40.0] {
        let outcome = at(0.0, 100.0, cached);
        assert_eq!(outcome.ordinary.built, outcome.ordinary.distinct);
        assert_eq!((outcome.ordinary.local, outcome.uploads), (0, 0));
        assert_eq!(outcome, at(90.0, 100.0, cached));
    }
    // With the cache's contents below, results are found by their keys.
    let (alone, below) = (at(50.0, 100.0, 0.0).ordinary, at(50.0, 100.0, 40.0).ordinary);
    assert_eq!((alone.shared, below.shared > 0), (0, true));
    // What others upload is nothing to them: they run at most what nobody had run.
    let mixed = at(50.0, 50.0, 0.0).ordinary;
    assert!(alone.saved() > mixed.saved() && mixed.saved() > at(50.0, 0.0, 0.0).ordinary.saved());
}

#[test]
fn orders_differ_only_when_several_contents_are_admitted() {
    let graph = Graph::synthetic(500, 3);
    let at = |order, local, cached| {
        let (local, cached) = (Share::percent(local), Share::percent(cached));
        simulate(
            &graph,
            &Params {
                order,
                local,
                cached,
                reproducible: Share::percent(80.0),
                ..Params::default()
            },
        )
    };
    // No uploads: nothing to choose from. No cache: uploads stand against stored results only.
    assert_eq!(at(Order::Firn, 0.0, 50.0), at(Order::UploadsFirst, 0.0, 50.0));
    assert_eq!(at(Order::Firn, 0.0, 50.0), at(Order::SharedFirst, 0.0, 50.0));
    assert_eq!(at(Order::Firn, 20.0, 0.0), at(Order::UploadsFirst, 20.0, 0.0));
    assert!(
        at(Order::Firn, 20.0, 50.0).ordinary.saved() > at(Order::UploadsFirst, 20.0, 50.0).ordinary.saved()
    );
    assert!(
        at(Order::SharedFirst, 20.0, 50.0).ordinary.saved() > at(Order::Firn, 20.0, 50.0).ordinary.saved()
    );
}

#[test]
fn all_kinds_of_steps_occur_in_the_scenarios_that_are_compared() {
    let mut kinds = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let graph = Graph::synthetic(40, seed);
        let params = Params {
            accounts: 5,
            cached: Share::percent(40.0),
            local: Share::percent(20.0),
            stores: Share::percent(50.0),
            targets: TargetRange { min: 1, max: 4 },
            seed,
            ..Params::default()
        };
        let world = World::new(&graph, &params);
        for step in Scenario::new(&world, &Population::new(&graph, &params)).steps {
            let kind = match step {
                Step::Upload { .. } => "upload".to_owned(),
                Step::Substitute { .. } => "substitute".to_owned(),
                Step::Request { rung, content, .. } => format!("{rung} {}", content.is_some()),
                Step::Graph { fetched, answers, .. } => {
                    kinds.extend(answers.iter().map(|(_, rung, _)| format!("graph {rung}")));
                    format!("graph {}", if fetched.is_empty() { "" } else { "fetched" })
                }
            };
            kinds.insert(kind);
        }
    }
    let all = [
        "already-valid false",
        "already-valid true",
        "built true",
        "graph ",
        "graph built",
        "graph fetched",
        "graph grounded",
        "graph reused",
        "reused true",
        "substitute",
        "substituted true",
        "upload",
    ];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), all);
}
