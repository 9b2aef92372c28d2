//! Dependencies only point down.

use std::path::Path;

#[test]
fn no_crate_uses_what_its_layer_forbids() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let wrong = firn_testkit::forbidden_arrows(&workspace).unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
