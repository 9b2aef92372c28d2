//! Every string that a client can send, at its largest: what that leaves in the service's memory, in its database and in answers is
//! bounded, however often it is sent.

use firn_nix::{BasicDerivation, DerivationOutput, StorePath};
use firn_protocol::MAX_WORDS;
use firn_protocol::wire::Encoder;
use firn_protocol::worker::Op;

use crate::raw::{Raw, path};
use crate::{Server, server};

/// The largest string that the old limit of the protocol let pass.
const LARGEST: usize = 31 << 20;

/// The largest that is read where a short string stands.
const SHORT: usize = 64 << 10;

/// Bytes that the service may grow by for one request of the largest kind: some copies of it, never what escaping makes of it.
const PEAK: u64 = 260 << 20;

/// The one that is run, in several copies.
const RUNS: &str = "value that is passed as a file";
const RUN_PEAK: u64 = 480 << 20;

/// The same while short ones come one after the other, a thousand times.
const KEPT: u64 = 64 << 20;

/// Bytes of an answer: an error, and what was logged before it.
const ANSWER: usize = 2 * MAX_WORDS;

/// Bytes that one request may leave in the database, and what each of many does.
const ROWS: u64 = 256 << 10;
const ROW: u64 = 8 << 10;

/// Those after which a session goes on, so that a thousand are sent in little time.
const GO_ON: &[&str] = &[
    "platform",
    "builder",
    "builtin",
    "args",
    "env name",
    "env value",
    "setting's name",
    "setting's value",
    "system features",
    "many system features",
    "allowed references",
    "structured attributes",
    "structured attribute's name",
    "output name",
    "hash part",
    "indirect root",
    "name",
    "text",
    "override's name",
    "override's value",
    "signatures",
    "signatures that are added",
];

/// Writes a request that has `big` in one place.
type Write = fn(&mut Encoder, &[u8]);

fn drv_path() -> StorePath {
    path("big.drv")
}

fn out() -> StorePath {
    path("big")
}

struct Drv<'b> {
    output: (&'b [u8], &'b [u8], &'b [u8], &'b [u8]),
    platform: &'b [u8],
    builder: &'b [u8],
    arg: &'b [u8],
    env: (&'b [u8], &'b [u8]),
}

/// A build of a derivation, of which `change` makes one string big.
fn build<'b>(e: &mut Encoder, change: impl FnOnce(&mut Drv<'b>)) {
    let stated = out().to_string();
    let mut drv = Drv {
        output: (b"out", b"", b"", b""),
        platform: b"x86_64-linux",
        builder: b"/bin/sh",
        arg: b"-c",
        env: (b"a", b"b"),
    };
    change(&mut drv);
    e.u64(Op::BuildDerivation as u64).path(&drv_path()).u64(1);
    let (name, path, algo, hash) = drv.output;
    e.bytes(name);
    e.bytes(if path.is_empty() && hash.is_empty() {
        stated.as_bytes()
    } else {
        path
    });
    e.bytes(algo).bytes(hash);
    e.u64(0).bytes(drv.platform).bytes(drv.builder);
    e.u64(1).bytes(drv.arg);
    e.u64(1).bytes(drv.env.0).bytes(drv.env.1);
    e.u64(0);
}

/// Path information whose strings are `big` where the name says so.
fn info(e: &mut Encoder, which: &str, big: &[u8]) {
    let or = |name: &str, other: &[u8]| {
        if which == name {
            big.to_vec()
        } else {
            other.to_vec()
        }
    };
    e.u64(Op::AddToStoreNar as u64);
    e.bytes(&or("path", out().to_string().as_bytes()));
    e.bytes(&or("deriver", b""));
    e.bytes(&or("narHash", "0".repeat(64).as_bytes()));
    match which {
        "references" => e.u64(1).bytes(big),
        _ => e.u64(0),
    };
    e.u64(0).u64(8).u64(0);
    match which {
        "sigs" => e.u64(1).bytes(big),
        _ => e.u64(0),
    };
    e.bytes(&or("ca", b""));
    // The flags, and an empty body.
    e.u64(0).u64(0).u64(0);
}

fn plain(op: Op, e: &mut Encoder, big: &[u8]) {
    e.u64(op as u64).bytes(big);
}

/// Every string of a request, by the operation and the protocol's name for it.
const STRINGS: &[(&str, Write)] = &[
    ("platform", |e, big| build(e, |drv| drv.platform = leak(big))),
    ("builder", |e, big| build(e, |drv| drv.builder = leak(big))),
    ("builtin", |e, big| {
        let name = [b"builtin:", big.get(8..).unwrap_or_default()].concat();
        build(e, |drv| drv.builder = leak(&name));
    }),
    ("args", |e, big| {
        build(e, |drv| (drv.platform, drv.arg) = (b"no", leak(big)))
    }),
    ("env name", |e, big| {
        build(e, |drv| (drv.platform, drv.env.0) = (b"no", leak(big)))
    }),
    ("env value", |e, big| {
        build(e, |drv| (drv.platform, drv.env.1) = (b"no", leak(big)))
    }),
    (RUNS, |e, big| {
        let mut drv = BasicDerivation::default();
        drv.outputs
            .insert("out".into(), DerivationOutput::InputAddressed(out()));
        (drv.platform, drv.builder) = (b"x86_64-linux".into(), b"/bin/sh".into());
        drv.args = vec![b"-c".into(), b"echo > $out".into()];
        drv.env.insert(b"out".into(), out().to_string().into());
        drv.env.insert(b"passAsFile".into(), b"big".into());
        drv.env.insert(b"big".into(), big.into());
        e.u64(Op::BuildDerivation as u64)
            .path(&drv_path())
            .basic_derivation(&drv)
            .u64(0);
    }),
    ("setting's name", |e, big| {
        let name = [b"FIRN_", big.get(5..).unwrap_or_default()].concat();
        build(e, |drv| drv.env.0 = leak(&name));
    }),
    ("setting's value", |e, big| {
        build(e, |drv| drv.env = (b"FIRN_SUBSTITUTERS", leak(big)));
    }),
    ("system features", |e, big| {
        build(e, |drv| drv.env = (b"requiredSystemFeatures", leak(big)));
    }),
    ("many system features", |e, big| {
        let words: Vec<u8> = (0..big.len() / 8)
            .flat_map(|n| format!("{n:07} ").into_bytes())
            .collect();
        build(e, |drv| drv.env = (b"requiredSystemFeatures", leak(&words)));
    }),
    ("allowed references", |e, big| {
        build(e, |drv| drv.env = (b"allowedReferences", leak(big)));
    }),
    ("structured attributes", |e, big| {
        let json = [b"[", &b"[],".repeat(big.len() / 3 - 4)[..], b"0]"].concat();
        build(e, |drv| drv.env = (b"__json", leak(&json)));
    }),
    ("structured attribute's name", |e, big| {
        let name = "n".repeat(big.len() - 40);
        let json = format!("{{\"outputChecks\":{{\"{name}\":1}}}}").into_bytes();
        build(e, |drv| drv.env = (b"__json", leak(&json)));
    }),
    ("output name", |e, big| {
        let text = text(big);
        build(e, |drv| drv.output.0 = leak(&text));
    }),
    ("output path", |e, big| build(e, |drv| drv.output.1 = leak(big))),
    ("output hash algorithm", |e, big| {
        let text = text(big);
        build(e, |drv| drv.output = (b"out", b"", leak(&text), b"x"));
    }),
    ("output hash", |e, big| {
        let text = text(big);
        build(e, |drv| drv.output = (b"out", b"", b"sha256", leak(&text)));
    }),
    ("path of IsValidPath", |e, big| plain(Op::IsValidPath, e, big)),
    ("path of QueryPathInfo", |e, big| plain(Op::QueryPathInfo, e, big)),
    ("path of NarFromPath", |e, big| plain(Op::NarFromPath, e, big)),
    ("hash part", |e, big| {
        plain(Op::QueryPathFromHashPart, e, &text(big))
    }),
    ("paths", |e, big| {
        e.u64(Op::QueryValidPaths as u64).u64(1).bytes(big).u64(0);
    }),
    ("derived path", |e, big| {
        e.u64(Op::QueryMissing as u64).u64(1).bytes(big);
    }),
    ("output names", |e, big| {
        let names = format!("{}!{}", drv_path(), "ab,".repeat(big.len() / 3 - 30));
        e.u64(Op::QueryMissing as u64).u64(1).text(&names);
    }),
    ("indirect root", |e, big| plain(Op::AddIndirectRoot, e, big)),
    ("path of a log", |e, big| plain(Op::AddBuildLog, e, big)),
    ("name", |e, big| {
        e.u64(Op::AddTextToStore as u64)
            .bytes(&text(big))
            .text("x")
            .u64(0);
    }),
    ("text", |e, big| {
        e.u64(Op::AddTextToStore as u64)
            .text("not a name/")
            .bytes(big)
            .u64(0);
    }),
    ("content address method", |e, big| {
        e.u64(Op::AddToStore as u64).text("x").bytes(&text(big));
    }),
    ("override's name", |e, big| set_options(e, big, b"1")),
    ("override's value", |e, big| set_options(e, b"timeout", big)),
    ("path of an upload", |e, big| info(e, "path", big)),
    ("deriver", |e, big| info(e, "deriver", big)),
    ("narHash", |e, big| info(e, "narHash", &text(big))),
    ("references", |e, big| info(e, "references", big)),
    ("signatures", |e, big| info(e, "sigs", &text(big))),
    ("ca", |e, big| info(e, "ca", &text(big))),
    ("signatures that are added", |e, big| {
        e.u64(Op::AddSignatures as u64)
            .path(&out())
            .u64(1)
            .bytes(&text(big));
    }),
    ("output of a realisation", |e, big| {
        e.u64(Op::QueryRealisation as u64)
            .path(&drv_path())
            .bytes(&text(big));
    }),
];

/// Tests may leak: a request is made once.
fn leak(bytes: &[u8]) -> &'static [u8] {
    Box::leak(bytes.to_vec().into_boxed_slice())
}

/// As much UTF-8, all of which is escaped.
fn text(big: &[u8]) -> Vec<u8> {
    vec![1; big.len()]
}

fn set_options(e: &mut Encoder, name: &[u8], value: &[u8]) {
    e.u64(Op::SetOptions as u64);
    for _ in 0..12 {
        e.u64(0);
    }
    e.u64(1).bytes(name).bytes(value);
}

/// Sends a request so often in one session; bytes of what is answered.
async fn send(server: &Server, request: &[u8], times: usize) -> usize {
    let mut raw = Raw::open(server, "mallory").await;
    for _ in 1..times {
        raw.raw(request).await.unwrap();
    }
    // One that is refused early is not read to its end.
    let _ = raw.raw(request).await;
    // Who goes away before the answer gets none.
    let told = match raw.answer().await {
        Ok(Err(text)) => text.len(),
        Ok(Ok(())) | Err(_) => 0,
    };
    told + raw.end().await.output.len()
}

fn status(server: &Server, field: &str) -> u64 {
    let file = format!("/proc/{}/status", server.pid().unwrap());
    let status = std::fs::read_to_string(file).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// From now on the peak is counted anew.
fn forget_peak(server: &Server) {
    let file = format!("/proc/{}/clear_refs", server.pid().unwrap());
    std::fs::write(file, "5").unwrap();
}

fn database(server: &Server) -> u64 {
    let size = |name: &str| std::fs::metadata(server.data_dir().join(name)).map_or(0, |m| m.len());
    size("firn.sqlite") + size("firn.sqlite-wal")
}

fn request(write: Write, length: usize) -> Vec<u8> {
    let mut e = Encoder::default();
    write(&mut e, &vec![1; length]);
    e.as_bytes().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_string_costs_a_few_times_itself() {
    let Some(server) = server() else { return };
    server
        .firn(&["account", "add", "mallory"])
        .unwrap()
        .success()
        .unwrap();
    // What is there after the first request is not this test's.
    send(&server, &request(STRINGS[0].1, 10), 1).await;
    let mut wrong = Vec::new();
    for (name, write) in STRINGS {
        let request = request(*write, LARGEST);
        forget_peak(&server);
        let (before, rows) = (status(&server, "VmRSS:"), database(&server));
        let answer = send(&server, &request, 1).await;
        let grown = status(&server, "VmHWM:").saturating_sub(before);
        let rows = database(&server).saturating_sub(rows);
        let most = if *name == RUNS { RUN_PEAK } else { PEAK };
        let silent = answer == 0 && !name.starts_with("override");
        if silent || answer > ANSWER || grown > most || rows > ROWS {
            wrong.push(format!(
                "{name}: an answer of {answer} bytes, {} MiB more at the peak, {rows} bytes more in the database",
                grown >> 20
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    says_little(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_strings_leave_little() {
    let Some(server) = server() else { return };
    server
        .firn(&["account", "add", "mallory"])
        .unwrap()
        .success()
        .unwrap();
    send(&server, &request(STRINGS[0].1, 10), 1).await;
    for (name, write) in STRINGS.iter().filter(|(name, _)| GO_ON.contains(name)) {
        let request = request(*write, SHORT);
        forget_peak(&server);
        let (before, rows) = (status(&server, "VmRSS:"), database(&server));
        for _ in 0..100 {
            let answer = send(&server, &request, 10).await;
            assert!(answer <= 10 * ANSWER, "{name}: answers of {answer} bytes");
        }
        let grown = status(&server, "VmHWM:").saturating_sub(before);
        assert!(grown <= KEPT, "{name}: {grown} bytes more at the peak");
        let rows = database(&server).saturating_sub(rows);
        assert!(rows <= 1000 * ROW, "{name}: {rows} bytes more in the database");
    }
    says_little(&server).await;
}

/// What was refused is read back in little memory, too.
async fn says_little(server: &Server) {
    forget_peak(server);
    let before = status(server, "VmRSS:");
    let run = server
        .firn(&["builds", "--account", "mallory", "--limit", "10000", "--json"])
        .unwrap();
    assert!(run.ok, "{}", run.stderr);
    let grown = status(server, "VmHWM:").saturating_sub(before);
    assert!(
        grown <= PEAK,
        "reading the list back: {grown} bytes more at the peak"
    );
    let log = server.log();
    let longest = log.lines().map(str::len).max().unwrap_or(0);
    assert!(longest <= MAX_WORDS, "a line of {longest} bytes in the log");
}
