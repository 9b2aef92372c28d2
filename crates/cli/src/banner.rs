//! What `firn serve` prints when it is ready: the lines to paste.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use firn_ssh::HostKey;

use crate::config::Config;

/// Prints where the service is and how a client gets there.
pub fn print(config: &Config, address: SocketAddr, key: &HostKey) {
    let line = key.public_line();
    let (host, port) = (address.ip(), address.port());
    let dir = config.data_dir.display();
    println!(
        "\
firn {version} is ready
  data      {dir}
  ssh       {address}
  host key  {fingerprint}

Let somebody in:
  firn --data-dir {dir} account add alice --ssh-key ~/.ssh/id_ed25519.pub

In the ssh_config of the user that runs builds (root for a multi-user Nix):
  Host firn
    HostName {host}
    Port {port}
    IdentityFile ~/.ssh/id_ed25519
    ServerAliveInterval 20

    (then `ssh firn shell` is where alice decides: settings, keys, caches, whom to trust)

In known_hosts:
  [{host}]:{port} {line}

In nix.conf:
  builders = ssh-ng://firn x86_64-linux - 100 1 benchmark,big-parallel - {key64}
  max-jobs = 0
  builders-use-substitutes = true
",
        version = env!("CARGO_PKG_VERSION"),
        fingerprint = key.fingerprint(),
        key64 = BASE64.encode(&line),
    );
}
