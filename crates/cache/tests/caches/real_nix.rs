//! Caches that the installed Nix has written.

use std::path::Path;
use std::process::Command;

use firn_cache::Options;
use firn_nix::{Hash, StorePath};
use firn_service::ports::AccountCaches as _;

use crate::fixtures::{bytes, client_with, nar, options};
use crate::server::{Server, ok, status};

/// Runs a program of Nix on a store of its own.
fn run(home: &Path, program: &str, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("NIX_CONF_DIR", home)
        .env(
            "NIX_CONFIG",
            "experimental-features = nix-command\nsandbox = false\nbuild-users-group =\n",
        )
        .env(
            "NIX_REMOTE",
            format!("local?root={}", home.join("root").display()),
        );
    let output = command.output().map_err(|e| format!("{program}: {e}"))?;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    match output.status.success() {
        true => Ok(text(output.stdout).trim().to_owned()),
        false => Err(format!("{program} {arguments:?}: {}", text(output.stderr))),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nix_copy_writes() {
    let temporary = tempfile::tempdir().unwrap();
    let home = temporary.path().canonicalize().unwrap();
    let tree = home.join("tree");
    std::fs::create_dir_all(tree.join("bin")).unwrap();
    std::fs::write(tree.join("bin/data"), bytes(300_000)).unwrap();
    std::fs::write(tree.join("text"), "hello\n".repeat(1000)).unwrap();
    let added = match run(&home, "nix-store", &["--add", tree.to_str().unwrap()]) {
        Ok(added) => added,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let path = StorePath::parse(added.as_bytes()).unwrap();
    let client = client_with(Options {
        file_roots: vec![home.clone()],
        ..options()
    });
    for compression in ["xz", "zstd", "bzip2", "gzip", "br", "none"] {
        let directory = home.join(compression);
        let to = format!("file://{}?compression={compression}", directory.display());
        if let Err(reason) = run(&home, "nix", &["copy", "--no-check-sigs", "--to", &to, &added]) {
            println!("skipped {compression}: {reason}");
            continue;
        }
        let from_disk = format!("file://{}", directory.display()).parse().unwrap();
        let served = directory.clone();
        let server = Server::start(move |seen| match std::fs::read(served.join(&seen.target[1..])) {
            Ok(file) => ok(&file),
            Err(_) => status(404),
        })
        .await;
        for cache in [from_disk, server.url("")] {
            client.about(&cache, None).await.unwrap();
            let info = client.narinfo(&cache, None, &path).await.unwrap().unwrap();
            assert_eq!(info.compression, compression);
            let nar = nar(&client, &cache, None, &info).await.unwrap();
            assert_eq!(nar.len() as u64, info.nar_size);
            assert_eq!(Hash::sha256(&nar), info.nar_hash.to_hash());
            println!("{cache}: {} bytes of {compression}", info.file_size.unwrap());
        }
    }
}
