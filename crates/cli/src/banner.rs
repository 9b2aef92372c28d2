//! What `firn serve` prints when it is ready: the lines to paste.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use firn_ssh::HostKey;

use crate::config::Config;

/// The name that clients give the service. OpenSSH looks its key up under that name, too, wherever it listens: Nix writes a `known_hosts`
/// of its own from the key in the builders line, under the name in the URL.
const ALIAS: &str = "firn";

/// What a builders line says of the service.
pub struct Offer {
    /// Systems that it builds for.
    pub systems: Vec<String>,
    /// `requiredSystemFeatures` that it has.
    pub features: BTreeSet<String>,
}

/// Where the service is, and how a client gets there.
pub fn text(config: &Config, offer: &Offer, address: SocketAddr, key: &HostKey) -> String {
    let line = key.public_line();
    let dir = config.data_dir.display();
    let program = program();
    let mut from = format!("--data-dir {}", quoted(&config.data_dir));
    if let Some(file) = &config.file {
        from = format!("--config {} {from}", quoted(file));
    }
    format!(
        "\
firn {version} is ready
  data      {dir}
  ssh       {address}
  host key  {fingerprint}

Let somebody in, where the service runs:
  {program} {from} account add alice --ssh-key ~/.ssh/id_ed25519.pub

In the ssh_config of the user that runs builds (root for a multi-user Nix):
  Host {ALIAS}
{host}
    Port {port}
    HostKeyAlias {ALIAS}
    User alice
    IdentityFile ~/.ssh/id_ed25519
    ServerAliveInterval 20

    # then `ssh {ALIAS} shell` is where alice decides: settings, keys, caches, whom to trust

In known_hosts:
  {ALIAS} {line}

In nix.conf:
  builders = ssh-ng://{ALIAS} {systems} - 100 1 {features} - {key64}
  max-jobs = 0
  builders-use-substitutes = true
",
        version = env!("CARGO_PKG_VERSION"),
        fingerprint = key.fingerprint(),
        host = host(address.ip(), &own_name()),
        port = address.port(),
        systems = words(offer.systems.iter()),
        features = words(offer.features.iter()),
        key64 = BASE64.encode(&line),
    )
}

fn own_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_bytes()
        .escape_ascii()
        .to_string()
}

/// How this program is called: by its name where that finds it.
fn program() -> String {
    let Ok(own) = std::env::current_exe() else {
        return "firn".to_owned();
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|dir| dir.join("firn"))
        .find(|file| file.is_file());
    match found.and_then(|file| file.canonicalize().ok()) {
        Some(file) if file == own => "firn".to_owned(),
        _ => quoted(&own),
    }
}

/// A word of a shell's command line.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A field of a builders line.
fn words<'w>(words: impl Iterator<Item = &'w String>) -> String {
    let words: Vec<&str> = words.map(String::as_str).collect();
    if words.is_empty() {
        "-".to_owned()
    } else {
        words.join(",")
    }
}

/// The line that says where the service is. One that listens on all addresses has none of its own.
fn host(address: IpAddr, own_name: &str) -> String {
    if address.is_unspecified() {
        return format!(
            "    # a name or an address by which clients reach this machine:\n    HostName {own_name}"
        );
    }
    format!("    HostName {address}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_shell_and_of_a_builders_line() {
        assert_eq!(quoted(Path::new("/var/lib/firn")), "/var/lib/firn");
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
        assert_eq!(words([].iter()), "-");
        assert_eq!(words(["a".to_owned(), "b".to_owned()].iter()), "a,b");
    }

    #[test]
    fn an_address_that_is_none_is_not_printed() {
        for (address, line) in [
            ("127.0.0.1", "    HostName 127.0.0.1"),
            ("::1", "    HostName ::1"),
        ] {
            assert_eq!(host(address.parse().unwrap(), "here"), line);
        }
        for address in ["0.0.0.0", "::"] {
            let line = host(address.parse().unwrap(), "here");
            assert!(
                line.ends_with("\n    HostName here") && line.contains("    # a name"),
                "{line}"
            );
        }
    }
}
