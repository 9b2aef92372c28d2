//! Host key files, and public keys as people paste them.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::support::{make_key, make_key_of, openssh_is_here};
use firn_ssh::{HostKey, HostKeyError, PublicKeyError, parse_public_key_line};

const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

#[test]
fn a_host_key_is_made_once_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("host");
    let keys: Vec<HostKey> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| HostKey::load_or_create(&path).unwrap()))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for key in &keys {
        assert_eq!(key.public_line(), keys[0].public_line());
    }
    assert!(keys[0].public_line().starts_with("ssh-ed25519 AAAA"));
    assert!(keys[0].fingerprint().starts_with("SHA256:"));
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "no drafts are left"
    );
    parse_public_key_line(&keys[0].public_line()).unwrap();
}

#[test]
fn openssh_and_firn_read_each_other_s_host_keys() {
    if !openssh_is_here("openssh_and_firn_read_each_other_s_host_keys") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let line = make_key(folder.path(), "theirs");
    let theirs = HostKey::load_or_create(&folder.path().join("theirs")).unwrap();
    assert!(line.starts_with(&theirs.public_line()));
    let ours = HostKey::load_or_create(&folder.path().join("ours")).unwrap();
    let shown = std::process::Command::new("ssh-keygen")
        .args(["-l", "-f"])
        .arg(folder.path().join("ours"))
        .output();
    assert!(crate::support::text(&shown.unwrap().stdout).contains(&ours.fingerprint()));

    make_key_of(folder.path(), "locked", &["-t", "ed25519", "-N", "secret"]);
    make_key_of(folder.path(), "rsa", &["-t", "rsa"]);
    for name in ["locked", "rsa"] {
        let found = HostKey::load_or_create(&folder.path().join(name));
        assert!(
            matches!(found, Err(HostKeyError::Unusable { .. })),
            "{name}: {found:?}"
        );
    }
}

#[test]
fn an_exposed_or_broken_host_key_is_refused_and_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("host");
    HostKey::load_or_create(&path).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    assert!(matches!(
        HostKey::load_or_create(&path),
        Err(HostKeyError::Exposed { mode: 0o644, .. })
    ));
    let broken = folder.path().join("broken");
    std::fs::write(&broken, "not a key").unwrap();
    std::fs::set_permissions(&broken, PermissionsExt::from_mode(0o600)).unwrap();
    assert!(matches!(
        HostKey::load_or_create(&broken),
        Err(HostKeyError::Unusable { .. })
    ));
    assert_eq!(std::fs::read(&broken).unwrap(), b"not a key");
    let nowhere = HostKey::load_or_create(&folder.path().join("no/such/folder"));
    assert!(
        matches!(nowhere, Err(HostKeyError::File { action: "create", .. })),
        "{nowhere:?}"
    );
}

#[test]
fn public_keys_are_read() {
    let line = parse_public_key_line(&format!("  {ED25519} alice at home \n")).unwrap();
    assert_eq!(line.comment, "alice at home");
    assert_eq!(line.key.algorithm(), "ssh-ed25519");
    assert_eq!(line.key.as_bytes().len(), 51);
    assert_eq!(line.key, parse_public_key_line(ED25519).unwrap().key);
    if !openssh_is_here("public_keys_are_read") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, kind) in [
        ("e", ["-t", "ecdsa", "-b", "521"]),
        ("r", ["-t", "rsa", "-b", "3072"]),
    ] {
        let line = make_key_of(folder.path(), name, &kind);
        let read = parse_public_key_line(&line).unwrap();
        let shown = std::process::Command::new("ssh-keygen")
            .args(["-l", "-f"])
            .arg(folder.path().join(name))
            .output();
        assert!(crate::support::text(&shown.unwrap().stdout).contains(&read.key.fingerprint()));
        assert_eq!(read.comment, format!("{name}@test"));
        assert!(line.starts_with(&format!("{} ", read.key.algorithm())));
    }
}

#[test]
fn security_keys_are_read() {
    let string = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let ed25519 = parse_public_key_line(ED25519).unwrap().key.as_bytes()[19..].to_vec();
    let name = "sk-ssh-ed25519@openssh.com";
    let blob = [string(name.as_bytes()), string(&ed25519), string(b"ssh:")].concat();
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &blob);
    let read = parse_public_key_line(&format!("{name} {base64} touch")).unwrap();
    assert_eq!((read.key.algorithm(), read.key.as_bytes()), (name, &blob[..]));
}

#[test]
fn everything_else_is_refused_with_a_reason() {
    let (_, base64) = ED25519.split_once(' ').unwrap();
    let refused = |line: &str| parse_public_key_line(line).unwrap_err();
    let private =
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjE=\n-----END OPENSSH PRIVATE KEY-----\n";
    assert_eq!(refused(private), PublicKeyError::PrivateKey);
    assert_eq!(
        refused("-----BEGIN RSA PRIVATE KEY-----"),
        PublicKeyError::PrivateKey
    );
    assert_eq!(
        refused("---- BEGIN SSH2 PUBLIC KEY ----\nAAAA"),
        PublicKeyError::OtherFormat
    );
    assert_eq!(refused(""), PublicKeyError::Empty);
    assert_eq!(refused("# a comment"), PublicKeyError::Empty);
    assert_eq!(
        refused(&format!("{ED25519}\n{ED25519}")),
        PublicKeyError::SeveralLines
    );
    assert!(matches!(
        refused(&"A".repeat(20_000)),
        PublicKeyError::TooLong(20_000)
    ));
    assert!(matches!(
        refused(&format!("no-pty {ED25519}")),
        PublicKeyError::Options(..)
    ));
    assert!(matches!(
        refused(&format!("command=\"a b\" {ED25519}")),
        PublicKeyError::Options(..)
    ));
    assert!(matches!(refused("ssh-ed25519"), PublicKeyError::Base64(_)));
    assert!(matches!(refused("ssh-ed25519 A*A"), PublicKeyError::Base64(_)));
    assert!(matches!(
        refused("ssh-ed25519 AAAA"),
        PublicKeyError::Malformed(..)
    ));
    assert!(matches!(
        refused(&format!("{ED25519}AAAA")),
        PublicKeyError::Malformed(..)
    ));
    assert!(matches!(
        refused(&format!("ssh-rsa {base64}")),
        PublicKeyError::Malformed(..)
    ));
    assert!(matches!(
        refused(&format!("ssh-dss {base64}")),
        PublicKeyError::Algorithm(_)
    ));
    assert!(matches!(refused(base64), PublicKeyError::Algorithm(_)));
    assert_eq!(
        refused(&format!("ssh-ed25519-cert-v01@openssh.com {base64}")),
        PublicKeyError::Certificate
    );
    if !openssh_is_here("everything_else_is_refused_with_a_reason") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let small = make_key_of(folder.path(), "small", &["-t", "rsa", "-b", "1024"]);
    assert_eq!(refused(&small), PublicKeyError::RsaSize(1024));
}
