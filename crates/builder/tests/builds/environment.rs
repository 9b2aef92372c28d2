//! What a builder can see of its surroundings.

use std::collections::BTreeMap;

use super::Pair;

/// One line per thing to look at: a name, and a command whose output is compared.
const PROBES: &[(&str, &str)] = &[
    ("env", "env | sort"),
    ("env-order", "tr '\\0' '\\n' < /proc/1/environ"),
    ("argv", "tr '\\0' '\\n' < /proc/1/cmdline"),
    ("exe", "readlink /proc/1/exe"),
    ("pid", "echo $$"),
    ("id", "id"),
    ("uids", "grep -E '^(Uid|Gid|Groups):' /proc/self/status"),
    (
        "capabilities",
        "grep -E '^(CapInh|CapPrm|CapEff|CapAmb):' /proc/self/status",
    ),
    ("bounding", "grep -E '^CapBnd:' /proc/self/status"),
    (
        "no-new-privileges",
        "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status",
    ),
    (
        "signals",
        "grep -E '^(SigBlk|SigIgn|SigCgt|ShdPnd):' /proc/1/status | sed 's/[0-9a-f]*\\(.\\{7\\}\\)$/\\1/'",
    ),
    (
        "uid-map",
        "awk '{ print $1, $3 }' /proc/self/uid_map /proc/self/gid_map; cat /proc/self/setgroups",
    ),
    ("cwd", "pwd; readlink /proc/1/cwd"),
    ("umask", "umask"),
    ("stdin", "readlink /proc/1/fd/0"),
    ("descriptors", "ls /proc/1/fd"),
    (
        "terminal",
        "test -t 1 && echo out; test -t 2 && echo err; readlink /proc/1/fd/1 | sed 's/[0-9]*$//'",
    ),
    ("terminal-modes", "stty -a < /proc/1/fd/1 | grep -v ^speed"),
    ("session", "sed 's/.*) //' /proc/1/stat | cut -d' ' -f2-6"),
    ("personality", "cat /proc/self/personality"),
    ("nice", "cut -d' ' -f19 /proc/self/stat"),
    (
        "hostname",
        "hostname; cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname",
    ),
    ("machine", "uname -s -m -n -r"),
    (
        "interfaces",
        "ls /proc/sys/net/ipv4/conf; ip -o addr | awk '{ print $2, $3, $4 }'; ip link | grep -o 'UP,LOWER_UP'",
    ),
    ("routes", "ip route; ip -6 route | grep -v '^::1'"),
    ("root", "ls -A /"),
    ("root-mode", "stat -c '%a' /"),
    (
        "modes",
        "stat -c '%n %a %F' /build /tmp /bin /bin/sh /nix /nix/store /proc",
    ),
    ("etc", "ls -A /etc; stat -c '%n %a' /etc/*"),
    ("etc-mode", "stat -c '%a' /etc"),
    ("etc-files", "cat /etc/passwd /etc/group /etc/hosts"),
    ("build", "ls -A /build; stat -c '%u %g' /build"),
    ("tmp", "ls -A /tmp"),
    ("store", "ls -A /nix/store; stat -c '%g' /nix/store"),
    ("store-owner", "stat -c '%u' /nix/store"),
    (
        "input",
        "cd /nix/store/*-bb; stat -c '%n %a %F %Y' .; stat -c '%n %a %F %s %Y %h' busybox sh",
    ),
    ("input-directory", "stat -c '%s %h' /nix/store/*-bb"),
    ("input-owner", "stat -c '%u %g' /nix/store/*-bb/busybox"),
    ("shell", "cmp /bin/sh /nix/store/*-bb/busybox && echo same"),
    ("devices", "ls -A /dev /dev/pts /dev/shm | grep -v kvm"),
    (
        "device-modes",
        "cd /dev; stat -c '%n %a %F %t %T' full null random tty urandom zero; readlink fd stdin stdout stderr ptmx",
    ),
    ("device-modes-mounts", "stat -c '%n %a' /dev/pts/ptmx /dev/shm"),
    (
        "device-use",
        "head -c 3 /dev/zero | od -c; echo x > /dev/null; head -c 5 /dev/urandom | wc -c; echo x > /dev/full",
    ),
    ("shm", "echo x > /dev/shm/x; cat /dev/shm/x; rm /dev/shm/x"),
    ("mounts", "awk '{ print $2 }' /proc/mounts | sort | grep -v kvm"),
    ("processes", "set -- /proc/[0-9]*; echo $#"),
    ("kill", "kill -9 1; kill -0 2 2>&1; echo alive"),
    (
        "setuid",
        "cd /build; touch f; chmod 4755 f; chmod 2755 f; stat -c %a f; mkdir -m 1777 d; stat -c %a d; rm -r f d",
    ),
    (
        "setuid-create",
        "cd /build; install -m 755 /dev/null g; stat -c %a g; rm g",
    ),
    (
        "write-input",
        "cd /nix/store/*-bb; for c in 'touch new' 'rm sh' 'chmod 755 busybox' 'ln busybox /nix/store/x'; do $c 2>/dev/null && echo did $c; done; true",
    ),
    (
        "write-root",
        "for f in /x /etc/x /bin/x /nix/x /dev/x; do touch $f 2>/dev/null && echo $f; done; true",
    ),
    (
        "change-ids",
        "chown 0 /build 2>&1 | sed 's/.*: //'; su -c true 2>&1 | head -n1",
    ),
    ("mount", "mount -t tmpfs x /tmp 2>&1 | sed 's/.*: //'"),
    ("unshare", "unshare -U true 2>&1 | sed 's/.*: //'; true"),
    (
        "listen",
        // The listener's input does not end: it would hang up, perhaps before the other one has sent.
        "mkfifo /build/in; nc -l -p 4000 <>/build/in >/build/got & for i in 1 2 3 4 5 6 7 8 9; do sleep 0.3; echo loop | nc 127.0.0.1 4000 2>/dev/null && break; done; wait; cat /build/got; rm /build/got /build/in",
    ),
    ("outside", "nc -w 1 192.0.2.1 80 2>&1 | sed 's/.*: //'"),
];

/// Where we are not as Nix 2.8 run by root without build users, and why. Besides, a build of ours never sees `/dev/kvm`.
const DIFFERENT: &[(&str, &str)] = &[
    ("root-mode", "versions of Nix differ, too"),
    ("etc-mode", "0555 as in newer versions of Nix"),
    (
        "store-owner",
        "with build users, Nix's store and inputs also belong to a user who is nobody inside",
    ),
    ("input-owner", "likewise"),
    (
        "input-directory",
        "the size of a directory and its links are whatever its file system says",
    ),
    (
        "write-input",
        "likewise; so that Nix's builder here owns them and can change modes",
    ),
    ("write-root", "likewise; newer versions of Nix protect /etc"),
    ("mounts", "/tmp is a mount of its own"),
    (
        "unshare",
        "user namespaces inside builds are the way to most holes of the kernel",
    ),
];

fn expression(system: &str) -> String {
    let lines: String = PROBES
        .iter()
        .map(|(name, command)| {
            let command = command.replace("${", "''${");
            format!("( set +e\n{command}\n) > $out/{name} 2>&1 || true\n")
        })
        .collect();
    format!(
        r#"sh "probe" ''
            mkdir $out
            {lines}
        '' {{ system = "{system}"; text = "some = text\n"; outputs = [ "out" ]; }}"#
    )
}

async fn probe(pair: &Pair, system: &str) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let (path, drv) = pair.nix.instantiate(&expression(system));
    let inputs = pair.firn.import(&pair.nix, &drv).await;
    pair.nix.build(&path, &drv).unwrap();
    let built = pair.firn.build(&path, &drv, inputs).await.unwrap();
    let read = |dir: std::path::PathBuf| -> BTreeMap<String, String> {
        let text = |name: &str| {
            std::fs::read(dir.join(name))
                .unwrap()
                .escape_ascii()
                .to_string()
                .replace("\\n", "\n")
        };
        PROBES
            .iter()
            .map(|(name, _)| ((*name).to_owned(), text(name)))
            .collect()
    };
    let out = &built["out"];
    (read(pair.nix.real(&out.path)), read(pair.firn.tree(out)))
}

#[tokio::test]
async fn everything_a_builder_can_see() {
    let Some(pair) = Pair::new() else { return };
    let (theirs, ours) = probe(&pair, "x86_64-linux").await;
    let different: BTreeMap<_, _> = DIFFERENT.iter().copied().collect();
    let mut wrong = Vec::new();
    for (name, _) in PROBES {
        let same = theirs[*name] == ours[*name];
        if same == different.contains_key(name) {
            wrong.push(format!(
                "{name}:\n-- Nix\n{}-- Firn\n{}",
                theirs[*name], ours[*name]
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_32_bit_machine() {
    let Some(pair) = Pair::new() else { return };
    let (theirs, ours) = probe(&pair, "i686-linux").await;
    for name in ["personality", "machine", "env"] {
        assert_eq!(theirs[name], ours[name]);
    }
    assert!(ours["machine"].contains("i686"), "{}", ours["machine"]);
}
