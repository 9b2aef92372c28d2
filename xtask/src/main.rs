//! The repository's own commands: `cargo xtask sources [FOLDER]`.

mod sources;

use std::path::{Path, PathBuf};

fn main() -> anyhow::Result<()> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    match arguments.split_first() {
        Some((command, rest)) if command == "sources" => {
            let into = rest
                .first()
                .map_or_else(|| repository.join("target/demo-sources"), PathBuf::from);
            sources::fetch(&repository.join("demo/sources.json"), &into)?;
            sources::seed(&into)?;
            Ok(())
        }
        _ => anyhow::bail!("usage: cargo xtask sources [FOLDER]"),
    }
}
