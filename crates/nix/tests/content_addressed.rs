//! Resolution and the hash modulo self against content-addressed builds by the Nix of this machine.

#![expect(clippy::indexing_slicing, reason = "a failed test is the point")]

mod real_nix;

use std::path::Path;

use firn_nix::rewrite::{HashModuloSelf, SelfReferences};
use firn_nix::{CaMethod, Derivation, StorePath};
use real_nix::Nix;

/// Three derivations in a row and one that has its inputs' paths deferred; `low` has outputs that mention each other, `self` mentions
/// itself in a file, a link and a name. (The name's place among the others does not depend on the hash, which is over the order that
/// the names had during the build.)
const GRAPH: &str = r#"
  rec {
    ca = { __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256"; };
    low = make "low" (ca // { outputs = [ "out" "dev" "lib" ]; }) ''
      $bb mkdir $out $dev
      echo "lib" > $lib
      echo "$lib" > $dev/lib
      echo "$dev $lib" > $out/all
    '';
    self = make "self" ca ''
      $bb mkdir $out
      echo "see $out and again $out" > $out/file
      $bb ln -s $out/file $out/link
      $bb touch $out/name-$($bb basename $out)
    '';
    flat = make "flat" (ca // { outputHashMode = "flat"; }) ''
      echo "flat" > $out
    '';
    sha1 = make "sha1" (ca // { outputHashAlgo = "sha1"; }) ''
      echo "sha1" > $out
    '';
    middle = make "middle" (ca // { inherit low; inherit (low) dev; flat = flat; }) ''
      $bb mkdir $out
      echo "$low $dev $flat ${self}" > $out/uses
    '';
    top = make "top" { inherit middle; plain = make "plain" {} "echo plain > $out"; outputs = [ "out" "doc" ]; } ''
      echo "$middle $out" > $out
      echo "$out" > $doc
    '';
  }
"#;

#[test]
fn derivations_resolve_as_in_real_nix() {
    let Some(nix) = Nix::with_features("ca-derivations") else {
        return;
    };
    let built = nix.graph(GRAPH, &["low", "self", "flat", "sha1", "middle", "top"]);
    let read = |drv: &StorePath| {
        Derivation::parse(&std::fs::read(nix.real(Path::new(&drv.to_string()))).unwrap()).unwrap()
    };
    let realised = |drv: &StorePath, output: &str| {
        let name = drv.derivation_name().unwrap();
        built
            .get(&format!("{name}!{output}"))
            .map(|b| b.path.clone())
            .or_else(|| {
                let drv = read(drv);
                drv.basic.outputs[output].path().cloned()
            })
    };
    for name in ["low", "middle", "top"] {
        let drv_path = &built[&format!("{name}!out")].drv;
        let resolved = read(drv_path).resolve(drv_path, &realised).unwrap();
        let real = read(&resolved.drv_path);
        assert_eq!(real.basic, resolved.drv, "{name}");
        assert!(real.input_drvs.is_empty(), "{name}");
        for (output, stated) in &resolved.drv.outputs {
            if let Some(path) = stated.path() {
                assert_eq!(path, &built[&format!("{name}!{output}")].path);
            }
        }
        // The id under which Nix keeps the realisation.
        let hashes = resolved.drv.output_hashes(name).unwrap();
        for (output, hash) in hashes.iter() {
            let id = format!("sha256:{}!{output}", hash.hex());
            let path = &built[&format!("{name}!{output}")].path;
            assert_eq!(nix.realisation(&id).as_ref(), Some(path), "{name} {id}");
        }
    }
}

#[test]
fn the_hash_modulo_self_is_that_of_real_nix() {
    let Some(nix) = Nix::with_features("ca-derivations") else {
        return;
    };
    let built = nix.graph(GRAPH, &["low", "self", "flat", "sha1", "middle"]);
    assert_eq!(built.len(), 7);
    let form = match nix.minor_version() {
        17..=34 => SelfReferences::Unplaced,
        _ => SelfReferences::Placed,
    };
    for (name, built) in &built {
        let info = &nix.closure(std::slice::from_ref(&built.path))[&built.path];
        let ca = info.ca.unwrap();
        let bytes = match ca.method {
            CaMethod::Flat => std::fs::read(nix.real(Path::new(&built.path.to_string()))).unwrap(),
            _ => nix.nar(&built.path),
        };
        for piece in [bytes.len(), 4096, 7] {
            let mut hash = HashModuloSelf::new(ca.hash.algo(), &built.path);
            bytes.chunks(piece).for_each(|c| hash.push(c));
            assert_eq!(hash.finish().unwrap().of(form), ca.hash, "{name}");
        }
        let mut others = info.references.clone();
        let itself = others.remove(&built.path);
        let path = StorePath::make_content_addressed(built.path.name(), &ca, &others, itself).unwrap();
        assert_eq!(path, built.path, "{name}");
    }
}
