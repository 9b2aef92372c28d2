//! Why a build was run: the one input that was brought from elsewhere, however far up the graph it is.

use serde_json::Value;

use crate::{api, build, build_locally, rungs, server};

/// `low` has other bytes each time it is built; each of the others copies what is below it.
const CHAIN: &str = r#"
let
  on = name: below: derivation { inherit name below; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-ec" "mkdir $out; cat $below/* > $out/copy" ]; };
  low = derivation { name = "low"; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-ec" "mkdir $out; cat /proc/sys/kernel/random/uuid > $out/low" ]; };
  one = on "one" low;
  two = on "two" one;
  top = on "top" two;
in
"#;

fn of(name: &str) -> String {
    format!("{CHAIN} {name}")
}

#[test]
fn the_one_upload_is_named_for_every_build_above_it() {
    let Some(server) = server() else { return };
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| server.client(name).unwrap());
    build(&alice, "ssh-ng", &of("top")).success().unwrap();
    build(&bob, "ssh-ng", &of("top")).success().unwrap();
    assert_eq!(rungs(&server, "bob"), ["reused"; 4]);
    // Carol built the lowest one herself and uploads it as an input.
    let low = build_locally(&carol, &of("low")).remove(0);
    build(&carol, "ssh-ng", &of("top")).success().unwrap();
    assert_eq!(rungs(&server, "carol"), ["built"; 3]);

    let mut below = low.clone();
    for name in ["one", "two", "top"] {
        let nix = &carol.nix;
        let file = nix.expression(&of(name)).unwrap();
        let drv = nix.instantiate(&file, &[]).unwrap().remove(0);
        let why = api(&carol, &["explain", &drv]);
        assert_eq!(why["rung"], "built", "{why}");
        let compared = &why["compared"];
        assert_eq!(compared["build"], Value::Null, "nobody learns which: {why}");
        let inputs = compared["inputs"].as_array().unwrap();
        assert_eq!(inputs.len(), 1, "{why}");
        assert_eq!(inputs[0]["path"], below, "{why}");
        assert_eq!(inputs[0]["before"]["brought"], "another account", "{why}");
        let causes = compared["causes"].as_array().unwrap();
        assert_eq!(causes.len(), 1, "{why}");
        assert_eq!(causes[0]["path"], low, "{why}");
        assert_eq!(causes[0]["cause"], "brought", "{why}");
        assert_eq!(causes[0]["now"]["brought"], "uploaded by you", "{why}");
        let text = carol.ssh(&["shell", "explain", &drv]).unwrap().success().unwrap();
        let named = format!("the one upload to fix: {low}");
        assert!(text.stdout.contains(&named), "{}", text.stdout);
        below = nix.outputs(&drv).unwrap().remove(0);
    }
    let text = carol.ssh(&["shell", "builds"]).unwrap().success().unwrap();
    assert!(!text.stdout.contains("alice"), "{}", text.stdout);
}

#[test]
fn usage_counts_for_an_account_and_for_all() {
    let Some(server) = server() else { return };
    let clients = ["alice", "bob"].map(|name| server.client(name).unwrap());
    for client in &clients {
        build(client, "ssh-ng", &of("top")).success().unwrap();
    }
    let bobs = api(&clients[1], &["usage", "--since", "1d"]);
    assert_eq!(bobs["rungs"]["reused"]["requests"], 4, "{bobs}");
    assert!(bobs["saved"]["wall_ms"].as_u64().unwrap() > 0, "{bobs}");
    assert_eq!(
        api(&clients[1], &["usage", "--until", "1d"])["rungs"],
        serde_json::json!({})
    );
    let all = server.firn(&["usage", "--json"]).unwrap().success().unwrap();
    let all: Value = serde_json::from_str(&all.stdout).unwrap();
    assert_eq!(
        (&all["spent"]["requests"], &all["saved"]["requests"]),
        (&4.into(), &4.into())
    );
    let days = server
        .firn(&["usage", "--by-day", "--since", "2d"])
        .unwrap()
        .success()
        .unwrap();
    // The head, and a day, or two around midnight.
    assert!([2, 3].contains(&days.lines().len()), "{}", days.stdout);
}
