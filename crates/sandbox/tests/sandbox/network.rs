//! A network through a relay.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use firn_sandbox::{ExitKind, FileSpec, Network, RESOLVER, Relay};

use super::death::kill_helper;
use super::fixture::{Fixture, root};

/// An address of this machine that is not its loopback device's. Nothing is sent.
fn own_address() -> Option<IpAddr> {
    let found = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("1.1.1.1:53")?;
        socket.local_addr()
    });
    let address = found.ok().map(|address| address.ip());
    if address.is_none() {
        eprintln!("skipped: this machine has no network");
    }
    address
}

fn relayed(allow: &[&str]) -> Network {
    Network::Relayed(Relay {
        allow: allow.iter().map(|range| range.parse().unwrap()).collect(),
        resolvers: Vec::new(),
    })
}

/// Every network that a command can be given here.
pub fn kinds() -> Vec<Network> {
    let relayed = firn_sandbox::probe::can_relay().is_ok().then(|| relayed(&[]));
    [Network::Loopback].into_iter().chain(relayed).collect()
}

/// As root, and as an ordinary user who may open the device.
fn fixtures() -> Vec<Fixture> {
    if let Err(why) = firn_sandbox::probe::can_relay() {
        eprintln!("skipped: {why}");
        return Vec::new();
    }
    [Fixture::new(), Fixture::ordinary_user_with_tun()]
        .into_iter()
        .flatten()
        .collect()
}

/// Answers every connection with what it says, until it has said all; counts them.
struct Server {
    address: SocketAddr,
    connections: std::sync::mpsc::Receiver<()>,
}

impl Server {
    fn start(address: IpAddr, serve: fn(TcpStream)) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (count, connections) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if count.send(()).is_err() {
                    return;
                }
                std::thread::spawn(move || serve(stream));
            }
        });
        Self { address, connections }
    }

    fn connected(&self) -> usize {
        self.connections.try_iter().count()
    }
}

fn echo(mut stream: TcpStream) {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    let _ = stream.write_all(&all);
}

fn nothing(_: TcpStream) {}

#[tokio::test]
async fn what_is_allowed_is_reached_and_nothing_is_lost() {
    let Some(address) = own_address() else { return };
    let server = Server::start(address, echo);
    let (host, port) = (server.address.ip(), server.address.port());
    for mut it in fixtures() {
        it.spec.network = relayed(&[&format!("{address}/32")]);
        // The other side answers when it has heard the end, so both directions end by themselves.
        let log = it
            .output(&format!(
                "echo hello | nc -w 20 {host} {port}\n\
                 dd if=/dev/urandom of=sent bs=1000000 count=20 2> /dev/null\n\
                 nc -w 60 {host} {port} < sent > got; cmp sent got && echo same\n\
                 for i in $(seq 20); do echo $i | nc -w 20 {host} {port} > n$i & done; wait\n\
                 cat n[0-9]* | wc -l"
            ))
            .await;
        let lines: Vec<&str> = log.lines().map(str::trim).collect();
        assert_eq!(lines, ["hello", "same", "20"], "{log}");
        assert_eq!(server.connected(), 22);
    }
}

#[tokio::test]
async fn everything_else_of_the_host_is_out_of_reach() {
    let Some(address) = own_address() else { return };
    let servers = [
        Server::start(address, nothing),
        Server::start("127.0.0.1".parse().unwrap(), nothing),
        Server::start("0.0.0.0".parse().unwrap(), nothing),
    ];
    let [own, loopback, any] = [0, 1, 2].map(|n| servers[n].address.port());
    for mut it in fixtures() {
        it.spec.network = relayed(&["192.0.2.77/32"]);
        let places = [
            (address.to_string(), own),
            (address.to_string(), any),
            ("127.0.0.1".into(), loopback),
            ("127.0.0.1".into(), any),
            ("0.0.0.0".into(), any),
            ("127.1.2.3".into(), any),
            (RESOLVER.to_string(), any),
            (RESOLVER.to_string(), 53),
            ("198.18.0.1".into(), any),
            ("169.254.169.254".into(), 80),
            ("10.0.0.1".into(), 80),
            ("172.16.0.1".into(), 80),
            ("192.168.0.1".into(), 80),
            ("100.64.0.1".into(), 80),
            ("224.0.0.1".into(), 80),
            ("::1".into(), any),
            ("fe80::1".into(), any),
            ("fd00:ec2::254".into(), 80),
            (format!("::ffff:{address}"), any),
        ];
        for (host, port) in places {
            let log = it
                .output(&format!(
                    "nc -w 10 {host} {port} < /dev/null 2>&1 && echo reached; true"
                ))
                .await;
            assert!(!log.contains("reached"), "{host} {port}: {log}");
            assert!(
                !log.contains("timed out"),
                "{host} {port} is not refused at once: {log}"
            );
        }
        let reached: Vec<usize> = servers.iter().map(Server::connected).collect();
        assert_eq!(reached, [0, 0, 0]);
    }
}

/// A resolver that knows one name.
fn resolver(answer: [u8; 4]) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            let question = &query[12..length];
            let is_a = question.ends_with(&[0, 1, 0, 1]);
            let mut reply = query[..2].to_vec();
            reply.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
            reply.extend(question);
            if is_a {
                reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                reply.extend(answer);
            }
            let _ = socket.send_to(&reply, from);
        }
    });
    address
}

#[tokio::test]
async fn names_are_asked_of_the_host_and_lead_nowhere_else() {
    let Some(IpAddr::V4(address)) = own_address() else {
        return;
    };
    let server = Server::start(address.into(), echo);
    for mut it in fixtures() {
        let resolvers = vec![resolver(address.octets())];
        it.spec.files.push(FileSpec {
            path: "/etc/resolv.conf".into(),
            contents: format!("nameserver {RESOLVER}\n").into(),
            mode: 0o644,
        });
        for (allow, text) in [
            (vec![format!("{address}/32").parse().unwrap()], "by name"),
            (vec![], ""),
        ] {
            it.spec.network = Network::Relayed(Relay {
                allow,
                resolvers: resolvers.clone(),
            });
            let port = server.address.port();
            let log = it
                .output(&format!("echo by name | nc -w 20 some.example {port} || true"))
                .await;
            assert_eq!(
                log.lines().next().unwrap_or_default().replace("nc: ", "").trim() == text,
                !text.is_empty(),
                "{log}"
            );
        }
        assert_eq!(server.connected(), 1);
    }
}

/// As root: a command that says that it has started, and sleeps; beside it, its relay.
fn asleep() -> Option<Fixture> {
    if !root() {
        return None;
    }
    let mut it = fixtures().into_iter().next()?;
    it.spec.network = relayed(&[]);
    // No other process: they are counted.
    it.sh(": > started; exec sleep 600");
    Some(it)
}

#[tokio::test]
async fn the_relay_dies_with_the_rest() {
    let Some(it) = asleep() else { return };
    let run = tokio::time::timeout(Duration::from_secs(600), it.run());
    let look = async {
        it.until_started().await;
        let all = it.processes().unwrap();
        assert_eq!(all.len(), 2, "the command and the relay: {all:?}");
    };
    tokio::select! {
        ended = run => panic!("{ended:?}"),
        () = look => {}
    }
    // The run was dropped.
    it.until_gone().await;
}

#[tokio::test]
async fn the_relay_dies_with_a_helper_that_is_killed() {
    let Some(it) = asleep() else { return };
    kill_helper(it).await;
}

#[tokio::test]
async fn a_command_whose_relay_is_killed_is_stopped() {
    let Some(it) = asleep() else { return };
    let kill = async {
        it.until_started().await;
        let all = it.processes().unwrap();
        let is_relay = |pid: &&String| {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            !line.contains("sleep")
        };
        let relay: i32 = all.iter().find(is_relay).unwrap().parse().unwrap();
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(relay).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
    };
    let ((exit, _), ()) = tokio::join!(it.run(), kill);
    assert!(
        matches!(&exit.status, ExitKind::SetupFailed(why) if why.contains("relays the network")),
        "{exit:?}"
    );
    it.until_gone().await;
}

#[tokio::test]
async fn the_device_is_not_the_commands() {
    for mut it in fixtures() {
        it.spec.network = relayed(&[]);
        let log = it
            .output(
                "cat /sys/class/net/* 2>&1 | wc -l; ip -o link | wc -l; ip route; \
                 ip route add 10.0.0.0/8 dev lo 2>&1; ip link set net0 down 2>&1; ls /dev/net 2>&1; true",
            )
            .await;
        assert!(log.contains("default dev net0"), "{log}");
        assert_eq!(log.matches("Operation not permitted").count(), 2, "{log}");
        assert!(log.contains("/dev/net: No such file"), "{log}");
    }
}
