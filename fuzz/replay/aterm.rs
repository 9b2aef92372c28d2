//! What is read as a derivation is written as a text that reads back the same, and can be checked and asked for its options.

use firn_nix::Derivation;
use firn_nix::derivation::DerivationOptions;

/// True when the bytes were read.
pub fn run(bytes: &[u8]) -> bool {
    let Ok(drv) = Derivation::parse(bytes) else {
        return false;
    };
    let text = drv.to_aterm();
    assert_eq!(Derivation::parse(&text).as_ref(), Ok(&drv));
    let _ = DerivationOptions::of(&drv.basic);
    if let Ok(path) = drv.store_path("x") {
        let _ = drv.basic.check(&path);
    }
    true
}
