//! What is linked is what `deny.toml` allows.

use std::path::Path;

#[test]
fn every_licence_is_allowed_and_no_package_is_banned() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let wrong = firn_testkit::forbidden_packages(&workspace).unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
