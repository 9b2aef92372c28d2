//! Who gets in, with which algorithms, and within which limits.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{House, PATIENCE, make_key_of, openssh_is_here, pattern, run, text};
use firn_ssh::{Ciphers, Config, parse_public_key_line};
use russh::{Preferred, cipher, client, kex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread")]
async fn only_registered_keys_get_in() {
    if !openssh_is_here("only_registered_keys_get_in") {
        return;
    }
    let house = House::open(Config::default()).await;
    let output = run(house.scripted("mallory", "exit 0")).await;
    assert_eq!(output.status.code(), Some(255));
    assert!(
        text(&output.stderr).contains("Permission denied (publickey)"),
        "{}",
        text(&output.stderr)
    );

    let mut with_password = house.ssh("mallory");
    with_password.args([
        "-oPubkeyAuthentication=no",
        "-oPreferredAuthentications=password,keyboard-interactive",
    ]);
    with_password.args(["-v", "127.0.0.1", "nix-daemon --stdio"]);
    let output = run(with_password).await;
    assert_eq!(output.status.code(), Some(255));
    let log = text(&output.stderr);
    assert!(
        log.contains("Permission denied (publickey)") && !log.contains("Next authentication method"),
        "{log}"
    );
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_accepted_kind_of_key_gets_in() {
    if !openssh_is_here("every_accepted_kind_of_key_gets_in") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let kinds: [(&'static str, &[&str]); 6] = [
        ("ed25519", &["-t", "ed25519"]),
        ("p256", &["-t", "ecdsa", "-b", "256"]),
        ("p384", &["-t", "ecdsa", "-b", "384"]),
        ("p521", &["-t", "ecdsa", "-b", "521"]),
        ("rsa2048", &["-t", "rsa", "-b", "2048"]),
        ("rsa4096", &["-t", "rsa", "-b", "4096"]),
    ];
    let keys = kinds.map(|(name, kind)| {
        let line = make_key_of(folder.path(), name, kind);
        (
            parse_public_key_line(&line).unwrap().key.as_bytes().to_vec(),
            name,
        )
    });
    let house = House::open_with(Config::default(), folder, keys.to_vec()).await;
    for (name, _) in kinds {
        let output = run(house.scripted(name, "exit 7")).await;
        assert_eq!(output.status.code(), Some(7), "{name}: {}", text(&output.stderr));
    }
    let mut sha1 = house.ssh("rsa2048");
    sha1.args([
        "-oPubkeyAcceptedAlgorithms=ssh-rsa",
        "127.0.0.1",
        "nix-daemon --stdio",
    ]);
    assert_eq!(
        run(sha1).await.status.code(),
        Some(255),
        "SHA-1 signatures are refused"
    );
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_may_offer_many_keys_but_not_any_number() {
    if !openssh_is_here("an_agent_may_offer_many_keys_but_not_any_number") {
        return;
    }
    let house = House::open(Config::default()).await;
    for (strangers, expected) in [(9, 0), (20, 255)] {
        let mut ssh = tokio::process::Command::new("ssh");
        ssh.args(["-F", "none", "-T", "-p", &house.address.port().to_string()]);
        ssh.args([
            "-oIdentitiesOnly=yes",
            "-oIdentityAgent=none",
            "-oBatchMode=yes",
            "-oStrictHostKeyChecking=yes",
        ]);
        ssh.arg(format!(
            "-oUserKnownHostsFile={}",
            house.folder.path().join("known_hosts").display()
        ));
        for number in 0..strangers {
            let name = format!("stranger{strangers}-{number}");
            crate::support::make_key(house.folder.path(), &name);
            ssh.arg("-i").arg(house.folder.path().join(name));
        }
        ssh.arg("-i").arg(house.folder.path().join("alice"));
        ssh.args(["-oSetEnv=FIRN_TEST=exit", "127.0.0.1", "nix-daemon --stdio"]);
        ssh.kill_on_drop(true);
        let output = run(ssh).await;
        assert_eq!(
            output.status.code(),
            Some(expected),
            "{strangers}: {}",
            text(&output.stderr)
        );
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_offered_algorithm_works_with_openssh() {
    if !openssh_is_here("every_offered_algorithm_works_with_openssh") {
        return;
    }
    let house = House::open(Config::default()).await;
    let kex = [
        "curve25519-sha256",
        "curve25519-sha256@libssh.org",
        "ecdh-sha2-nistp256",
        "ecdh-sha2-nistp384",
    ];
    let ciphers = [
        "chacha20-poly1305@openssh.com",
        "aes128-gcm@openssh.com",
        "aes256-gcm@openssh.com",
        "aes128-ctr",
        "aes192-ctr",
        "aes256-ctr",
    ];
    let options = kex.map(|name| format!("-oKexAlgorithms={name}")).into_iter();
    let options = options.chain(ciphers.map(|name| format!("-oCiphers={name}")));
    for option in options.chain(["-C".to_owned()]) {
        let mut algorithm = house.ssh("alice");
        algorithm.args([
            &option,
            "-oSetEnv=\"FIRN_TEST=source 100000\"",
            "127.0.0.1",
            "nix-daemon --stdio",
        ]);
        let output = run(algorithm).await;
        assert_eq!(output.stdout.len(), 100_000, "{option}: {}", text(&output.stderr));
    }
    for weak in [
        "diffie-hellman-group14-sha256",
        "diffie-hellman-group-exchange-sha256",
    ] {
        let mut ssh = house.ssh("alice");
        ssh.args([
            &format!("-oKexAlgorithms={weak}"),
            "127.0.0.1",
            "nix-daemon --stdio",
        ]);
        assert_eq!(run(ssh).await.status.code(), Some(255), "{weak} is not offered");
    }
    let mut verbose = house.ssh("alice");
    verbose.args([
        "-vv",
        "-oSetEnv=FIRN_TEST=exit",
        "127.0.0.1",
        "nix-daemon --stdio",
    ]);
    let log = text(&run(verbose).await.stderr);
    assert!(
        log.contains("KEX algorithms: mlkem768x25519-sha256,curve25519-sha256"),
        "{log}"
    );
    assert!(log.contains("kex: algorithm: curve25519-sha256"), "{log}");
    assert!(log.contains("kex: host key algorithm: ssh-ed25519"), "{log}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_has_a_say_in_the_cipher() {
    if !openssh_is_here("the_server_has_a_say_in_the_cipher") {
        return;
    }
    for (ciphers, expected) in [
        (Ciphers::Any, "chacha20-poly1305@openssh.com"),
        (Ciphers::Fastest, "gcm@openssh.com"),
    ] {
        let house = House::open(Config {
            ciphers,
            ..Config::default()
        })
        .await;
        // On a loaded machine a client can be too late to be asked.
        let mut log = String::new();
        for _ in 0..10 {
            let mut ssh = house.ssh("alice");
            ssh.args(["-v", "-oSetEnv=FIRN_TEST=exit", "127.0.0.1", "nix-daemon --stdio"]);
            let output = run(ssh).await;
            log = text(&output.stderr);
            assert!(output.status.success(), "{log}");
            if log.contains(&format!("{expected} MAC")) {
                break;
            }
        }
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("aes") {
            assert!(log.contains(&format!("{expected} MAC")), "{log}");
        }
        house.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compression_is_for_those_who_ask() {
    if !openssh_is_here("compression_is_for_those_who_ask") {
        return;
    }
    let house = House::open(Config::default()).await;
    for (option, expected) in [("-C", "zlib@openssh.com"), ("-oCompression=no", "none")] {
        let mut ssh = house.ssh("alice");
        // New keys in between: both streams begin anew.
        ssh.args([option, "-v", "-oRekeyLimit=512K", "-oSetEnv=FIRN_TEST=echo"]);
        ssh.args(["127.0.0.1", "nix-daemon --stdio"])
            .stdin(Stdio::piped());
        let mut child = ssh.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // Noise, and what packs well.
        let sent: Vec<u8> = (0..3_000_000)
            .map(|index| {
                if index % 1_000_000 < 500_000 {
                    pattern(index)
                } else {
                    0
                }
            })
            .collect();
        let (output, ()) = timeout(PATIENCE, async {
            tokio::join!(child.wait_with_output(), async {
                stdin.write_all(&sent).await.unwrap();
                drop(stdin);
            })
        })
        .await
        .unwrap();
        let output = output.unwrap();
        let log = text(&output.stderr);
        assert!(
            output.status.success() && output.stdout == sent,
            "{option}: {log}"
        );
        assert!(
            log.contains(&format!("compression: {expected}")),
            "{option}: {log}"
        );
    }
    house.close().await;
}

struct AnyHost;

impl client::Handler for AnyHost {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        _key: &russh::keys::PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn post_quantum_key_exchange() {
    if !openssh_is_here("post_quantum_key_exchange") {
        return;
    }
    let house = House::open(Config::default()).await;
    let preferred = Preferred {
        kex: vec![kex::MLKEM768X25519_SHA256].into(),
        cipher: vec![cipher::AES_256_GCM].into(),
        ..Preferred::default()
    };
    let config = Arc::new(client::Config {
        preferred,
        ..client::Config::default()
    });
    let mut client = client::connect(config, house.address, AnyHost).await.unwrap();
    let key = russh::keys::load_secret_key(house.folder.path().join("alice"), None).unwrap();
    let key = russh::keys::PrivateKeyWithHashAlg::new(Arc::new(key), None);
    assert!(
        client
            .authenticate_publickey("anybody", key)
            .await
            .unwrap()
            .success()
    );
    let mut channel = client.channel_open_session().await.unwrap();
    channel
        .set_env(false, "FIRN_TEST", "source 1000000")
        .await
        .unwrap();
    channel.exec(true, "nix-daemon --stdio").await.unwrap();
    let mut received = Vec::new();
    channel.make_reader().read_to_end(&mut received).await.unwrap();
    assert_eq!(received.len(), 1_000_000);
    drop(channel);
    drop(client);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_do_not_log_in_are_shown_out() {
    let config = Config {
        login_timeout: Duration::from_millis(300),
        max_unauthenticated: 2,
        ..Config::default()
    };
    if !openssh_is_here("those_who_do_not_log_in_are_shown_out") {
        return;
    }
    let house = House::open(config).await;
    let mut mute = TcpStream::connect(house.address).await.unwrap();
    let mut half = TcpStream::connect(house.address).await.unwrap();
    half.write_all(b"SSH-2.0-half\r\n").await.unwrap();
    // Both places are taken only once the server has greeted both.
    for stranger in [&mut mute, &mut half] {
        let mut greeting = [0; 4];
        stranger.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"SSH-");
    }
    // A third one gets in at once, and the oldest makes room.
    let mut third = TcpStream::connect(house.address).await.unwrap();
    let mut greeting = [0; 4];
    third.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"SSH-");
    for mut stranger in [mute, half, third] {
        let _ = timeout(PATIENCE, stranger.read_to_end(&mut Vec::new()))
            .await
            .unwrap();
    }
    house.close().await;
}
