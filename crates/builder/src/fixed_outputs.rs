//! What fixed-output builds have besides what every build has: a network, and what the operator says of the world.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use firn_nix::BasicDerivation;
use firn_sandbox::{FileSpec, IpRange, Network, RESOLVER, Relay, is_public};

use crate::environment::is_fixed;
use crate::layout::HOSTS;

const DNS: u16 = 53;

/// Where a build finds certificates; Nix puts them there, too.
const CA_FILE: &str = "/etc/ssl/certs/ca-certificates.crt";
/// A bundle of this many bytes is none.
const MAX_CA: u64 = 8 << 20;

/// What fixed-output builds have besides, of the operator's. Nothing of an account, and nothing of this process's environment, ever gets
/// to them: that is why their results may be shared.
#[derive(Clone, Debug)]
pub struct FixedOutputs {
    /// What they may reach besides the public internet; or why they have no network, as the end of a sentence.
    pub network: Result<Vec<IpRange>, String>,
    /// Values of `impureEnvVars`: proxies. Not for secrets: every account's builds can read them.
    pub variables: BTreeMap<String, String>,
    /// A PEM file of certificates of the host to trust.
    pub ca_file: Option<PathBuf>,
}

impl FixedOutputs {
    /// No network, nothing else.
    #[must_use]
    pub fn without_network(why: impl Into<String>) -> Self {
        Self {
            network: Err(why.into()),
            variables: BTreeMap::new(),
            ca_file: None,
        }
    }

    /// The network of one build.
    pub(crate) fn network(&self, drv: &BasicDerivation) -> Network {
        match &self.network {
            Ok(allow) if is_fixed(drv) => Network::Relayed(Relay {
                allow: allow.clone(),
                resolvers: resolvers(&read("/etc/resolv.conf")),
            }),
            _ => Network::Loopback,
        }
    }

    /// The text of a failure, with what might explain it.
    pub(crate) fn noted(&self, drv: &BasicDerivation, text: String) -> String {
        match &self.network {
            Err(why) if is_fixed(drv) => format!("{text}\n{}", note(why)),
            _ => text,
        }
    }

    /// What name resolution and TLS need. Of the host's names only those whose addresses can be reached.
    pub(crate) fn files(&self, network: &Relay) -> Vec<FileSpec> {
        let file = |path: &str, contents: Vec<u8>| FileSpec {
            path: path.into(),
            contents,
            mode: 0o644,
        };
        let mut files = vec![
            file(
                "/etc/nsswitch.conf",
                b"hosts: files dns\nservices: files\n".into(),
            ),
            file("/etc/resolv.conf", format!("nameserver {RESOLVER}\n").into()),
            file("/etc/hosts", hosts(&read("/etc/hosts"), &network.allow).into()),
        ];
        // Absent on many machines; Nix leaves it out then, too.
        if let Ok(services) = std::fs::read("/etc/services") {
            files.push(file("/etc/services", services));
        }
        if let Some(bundle) = self.ca_file.as_deref().and_then(bundle) {
            files.push(file(CA_FILE, bundle));
        }
        files
    }
}

/// What is told of a failed build that might have succeeded with a network.
pub(crate) fn note(why: &str) -> String {
    format!("note: it had no network: {why}")
}

fn read(path: &str) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    bytes.utf8_chunks().map(|chunk| chunk.valid()).collect()
}

fn bundle(file: &Path) -> Option<Vec<u8>> {
    let small = std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_CA);
    let bundle = std::fs::read(file).ok().filter(|_| small);
    if bundle.is_none() {
        tracing::warn!(file = %file.display(), "fixed-output builds trust no certificates: the file of them cannot be read");
    }
    bundle
}

fn resolvers(resolv_conf: &str) -> Vec<SocketAddr> {
    let addresses = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let server = words.next() == Some("nameserver");
        // Without what names a device of the host.
        let address = words.next().filter(|_| server)?.split('%').next()?;
        address.parse::<IpAddr>().ok()
    });
    addresses.map(|address| SocketAddr::new(address, DNS)).collect()
}

fn hosts(hosts: &str, allow: &[IpRange]) -> String {
    let mut text = HOSTS.to_owned();
    for line in hosts.lines() {
        let address = line
            .split_whitespace()
            .next()
            .and_then(|word| word.parse::<IpAddr>().ok());
        if address
            .is_some_and(|address| is_public(address) || allow.iter().any(|range| range.contains(address)))
        {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_of_the_host() {
        let text = "# nameserver 1.1.1.1\nsearch example.org\nnameserver 127.0.0.53\nnameserver\tfe80::1%eth0\nnameserver x\n";
        let found: Vec<String> = resolvers(text).iter().map(SocketAddr::to_string).collect();
        assert_eq!(found, ["127.0.0.53:53", "[fe80::1]:53"]);
    }

    #[test]
    fn names_of_what_cannot_be_reached_stay_the_hosts() {
        let text = "127.0.0.1 localhost secret\n10.0.0.1 internal\n10.1.0.1 mirror # ours\n8.8.8.8 public\n# 8.8.4.4 comment\n";
        assert_eq!(
            hosts(text, &["10.1.0.0/16".parse().unwrap()]),
            format!("{HOSTS}10.1.0.1 mirror # ours\n8.8.8.8 public\n")
        );
    }
}
