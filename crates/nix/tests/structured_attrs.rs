//! `.attrs.json`, `.attrs.sh` and the graph files against those that the real Nix gives to a build.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a failed test is the point"
)]

mod real_nix;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use firn_nix::derivation::DerivationOptions;
use firn_nix::{Derivation, PathInfo, StorePath, graph, structured_attrs};
use real_nix::Nix;

const COPY: &str = "$bb mkdir @out@; $bb cp .attrs.json .attrs.sh @out@/; ${extra}";

/// Builds with these attributes and compares both files.
fn compare(nix: &Nix, outputs: &str, attributes: &str) {
    let others: String = outputs
        .split(' ')
        .filter(|o| *o != "out")
        .map(|o| format!("$bb touch ${{builtins.placeholder \"{o}\"}};"))
        .collect();
    let (drv, paths) = nix.built(outputs, attributes, &COPY.replace("${extra}", &others));
    let options = DerivationOptions::of(&drv.basic).unwrap();
    let (graphs, infos) = graphs(nix, &options);
    let files =
        structured_attrs::attrs_files(options.structured.as_ref().unwrap(), &paths, &graphs, &infos).unwrap();
    let read = |name: &str| {
        let path = Path::new(&paths["out"].to_string()).join(name);
        String::from_utf8(std::fs::read(nix.real(&path)).unwrap()).unwrap()
    };
    let real = read(".attrs.json");
    let mut ours = String::from_utf8(files.json).unwrap();
    if !real.contains("\"valid\":true") {
        // Nix 2.8 does not say it yet.
        ours = ours.replace(",\"valid\":true", "");
    }
    assert_eq!(ours, real);
    assert_eq!(String::from_utf8(files.sh).unwrap(), read(".attrs.sh"));
}

type Graphs = (
    BTreeMap<String, BTreeSet<StorePath>>,
    BTreeMap<StorePath, PathInfo>,
);

fn graphs(nix: &Nix, options: &DerivationOptions) -> Graphs {
    let roots: Vec<_> = options
        .export_references_graph
        .values()
        .flatten()
        .cloned()
        .collect();
    let mut infos = if roots.is_empty() {
        BTreeMap::new()
    } else {
        nix.closure(&roots)
    };
    let inputs: BTreeSet<_> = infos.keys().cloned().collect();
    let outputs_of = |drv: &StorePath| -> BTreeSet<StorePath> {
        let bytes = std::fs::read(nix.real(Path::new(&drv.to_string()))).unwrap();
        let drv = Derivation::parse(&bytes).unwrap();
        drv.basic
            .outputs
            .values()
            .filter_map(|o| o.path().cloned())
            .collect()
    };
    let outputs: Vec<_> = inputs
        .iter()
        .filter(|p| p.is_derivation())
        .flat_map(outputs_of)
        .collect();
    if !outputs.is_empty() {
        infos.extend(nix.closure(&outputs));
    }
    let exported = options.export_references_graph.iter().map(|(name, roots)| {
        (
            name.clone(),
            graph::exported(roots, &inputs, &infos, outputs_of).unwrap(),
        )
    });
    (exported.collect(), infos)
}

#[test]
fn the_files_are_those_of_nix() {
    let Some(nix) = Nix::new() else { return };
    compare(
        &nix,
        "out dev lib",
        r#"
        __structuredAttrs = true;
        a = 1; big = 9007199254740993; min = (-9223372036854775807); neg = -7; yes = true; no = false; nil = null;
        f1 = 1.5; f2 = 100.0; f3 = 0.1; f4 = 1.0e20; f5 = 1.5e-7; f6 = -2.0; f7 = 123456.789; f8 = 5000000000.0;
        text = "it's \"quoted\" \\ back\n\ttab \r é 大白兔 😀 \${x} $y `z`";
        empty = ""; emptyList = []; emptySet = {};
        list = [ 1 "two" null true false "it's" ]; floats = [ 1.0 2.5 ]; nested = [ [ 1 ] [ ] ];
        set = { x = 1; "a key's" = "v"; n = null; }; deep = { a.b.c = [ { d = 1; } ]; };
        "not-a-variable" = 1; "1digit" = 2; _under = 3; "ünicode" = 4;
        mine = "${placeholder "out"}/bin:${placeholder "dev"}"; withContext = [ (toFile "f" "x") ];
        "#,
    );
    compare(
        &nix,
        "out",
        r#"
        __structuredAttrs = true;
        exportReferencesGraph = rec {
          file = [ (toFile "top" "see ${toFile "low" "low"}") ];
          both = file ++ [ (toFile "other" "other") ];
          drv = [ (derivation { name = "y"; system = currentSystem; builder = "${bb}/busybox"; outputs = [ "out" "doc" ];
            args = [ "sh" "-c" "${bb}/busybox touch $doc; echo ${toFile "low" "low"} $out $doc > $out" ]; }).drvPath ];
        };
        outputChecks.out.maxSize = 1000000;
        "#,
    );
}

/// What Nix 2.8 writes into `__json` itself is tame; given as plain text, any JSON goes through.
#[test]
fn any_json_text_is_read_and_written_as_by_nix() {
    let Some(nix) = Nix::new() else { return };
    let json = r#" { "z" : [ 1e2, -0, -0.0, 1E-7, 0.00001, 0.0001, 1e15, 1e14, 123456789012345678, 18446744073709551615,
        18446744073709551616, -9223372036854775808, -9223372036854775809, 1.7976931348623157e308, 3.5e-10,
        5e-324, 6.11793950736351e16, 201576030214256.62, -2.665395735562245e186, 9.454282603214435e234 ],
        "a\u0041" : "\u00e9\ud83d\ude00\/\b\f\u0001\u001f\u007f\u2028", "dup" : 1, "dup" : 2, "" : {}, "t" : "\ttab",
        "n1" : 4294967296, "n2" : 18446744073709551615, "n3" : 1e39, "n4" : 16777217.5, "n5" : -2147483649.0, "n6" : 2147483647.0,
        "n7" : -0.5, "n8" : 3.0e9 }"#;
    compare(
        &nix,
        "out",
        &format!("__json = ''{}'';", json.replace("''", "'''")),
    );
}

#[test]
fn the_graph_file_is_that_of_nix() {
    let Some(nix) = Nix::new() else { return };
    let (drv, paths) = nix.built(
        "out",
        r#"exportReferencesGraph = let top = toFile "top" "see ${toFile "low" "low"}"; in
             [ "g-1" top "_g.2" (derivation { name = "y"; system = currentSystem; builder = "${bb}/busybox";
               args = [ "sh" "-c" "echo ${top} $out > $out" ]; }).drvPath ];"#,
        "$bb mkdir @out@; $bb cp g-1 _g.2 @out@/",
    );
    let options = DerivationOptions::of(&drv.basic).unwrap();
    let (graphs, infos) = graphs(&nix, &options);
    assert_eq!(graphs.len(), 2);
    for (name, exported) in graphs {
        let path = Path::new(&paths["out"].to_string()).join(&name);
        let real = String::from_utf8(std::fs::read(nix.real(&path)).unwrap()).unwrap();
        assert!(real.lines().count() > 5);
        assert_eq!(graph::registration(&exported, &infos).unwrap(), real, "{name}");
    }
}
