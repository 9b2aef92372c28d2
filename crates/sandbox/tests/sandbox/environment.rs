//! What the command sees.

use super::fixture::Fixture;

const SCRIPT: &str = r#"
echo "id $(id -u):$(id -g) $(id -un)"
echo "pid $$"
echo "cwd $PWD $(readlink /proc/self/cwd)"
echo "host $(hostname) $(cat /proc/sys/kernel/domainname)"
echo "umask $(umask)"
echo "core $(ulimit -S -c)"
grep -E '^(CapInh|CapPrm|CapEff|CapAmb|NoNewPrivs|Seccomp|SigIgn|SigBlk|SigCgt):' /proc/self/status
for fd in $(seq 0 40); do test -L /proc/1/fd/$fd && echo "fd $fd"; done
tty < /dev/null; test -t 1 && test -t 2 && echo "terminal"
readlink /proc/1/fd/0
cat /proc/self/personality
echo "dev $(cd /dev; echo *)"
for l in fd stdin stdout stderr ptmx; do echo "$l $(readlink /dev/$l)"; done
for f in / /etc /tmp /dev/shm /dev/pts/ptmx /nix/store /build; do stat -c '%a %n' $f; done
echo "root $(cd /; echo *)"
echo "etc $(cd /etc; echo *)"
echo "net $(cd /proc/sys/net/ipv4/conf; echo *)"
ip addr show dev lo | sed -n 's/.*\(inet6* [^ ]*\).*/\1/p; s/.*,\(UP\).*/\1/p'
cat /proc/sys/user/max_user_namespaces
cat /proc/self/cgroup | sed 's/.*://' | sed -n '1p'
echo to-dev-stderr > /dev/stderr
echo $(env | sort)
touch /etc/x /x /bin/x /dev/x 2>&1 | sed 's/.*: //'
chmod 777 /etc 2>/dev/null || echo "etc stays"
echo hello > /tmp/x && echo hello > /dev/shm/x && echo "tmp works"
(echo secret > /proc/sys/kernel/hostname) 2>/dev/null || echo "hostname stays"
cat /proc/sys/kernel/random/boot_id
cat /proc/cmdline
for f in diskstats interrupts kallsyms keys partitions sys/fs/file-nr; do cat /proc/$f; done
for d in bus fs irq pressure; do ls -A /proc/$d; done 2>/dev/null
for f in cpuinfo loadavg meminfo stat uptime version; do test -n "$(head -c 20 /proc/$f)" || echo "no $f"; done
(echo x > /proc/keys) 2>&1 | sed 's/.*: //'
grep -c masks /proc/mounts || true
"#;

const EXPECTED: &str = "id 1000:100 nixbld
pid 1
cwd /build /build
host localhost (none)
umask 0022
core 0
SigBlk:\t0000000000000000
SigIgn:\t0000000000000000
SigCgt:\t0000000000000000
CapInh:\t0000000000000000
CapPrm:\t0000000000000000
CapEff:\t0000000000000000
CapAmb:\t0000000000000000
NoNewPrivs:\t1
Seccomp:\t2
fd 0
fd 1
fd 2
not a tty
terminal
/dev/null
00040000
dev fd full null ptmx pts random shm stderr stdin stdout tty urandom zero
fd /proc/self/fd
stdin /proc/self/fd/0
stdout /proc/self/fd/1
stderr /proc/self/fd/2
ptmx /dev/pts/ptmx
755 /
555 /etc
1777 /tmp
1777 /dev/shm
666 /dev/pts/ptmx
1775 /nix/store
700 /build
root bin build dev etc nix proc tmp
etc group passwd
net all default lo
UP
inet 127.0.0.1/8
inet6 ::1/128
0
/
to-dev-stderr
PATH=/bin PWD=/build SHLVL=1
Read-only file system
Read-only file system
Read-only file system
Read-only file system
etc stays
tmp works
hostname stays
6669726e-0000-4000-8000-000000000000

Read-only file system
0
";

fn same(log: &str) {
    for (number, (seen, expected)) in log.lines().zip(EXPECTED.lines()).enumerate() {
        assert_eq!(seen, expected, "line {number}\n{log}");
    }
    assert_eq!(log.lines().count(), EXPECTED.lines().count(), "\n{log}");
}

#[tokio::test]
async fn is_that_of_a_nix_build() {
    let Some(mut it) = Fixture::new() else { return };
    same(&it.output(SCRIPT).await);
}

#[tokio::test]
async fn is_the_same_for_an_ordinary_user() {
    let Some(mut it) = Fixture::ordinary_user() else {
        return;
    };
    same(&it.output(SCRIPT).await);
}

#[tokio::test]
async fn can_be_that_of_a_32_bit_machine() {
    let Some(mut it) = Fixture::new() else { return };
    it.spec.i686 = true;
    assert_eq!(
        it.output("uname -m; cat /proc/self/personality").await,
        "i686\n00040008\n"
    );
}

#[tokio::test]
async fn programs_of_the_operator_get_devices_and_a_random_layout() {
    let Some(mut it) = Fixture::new() else { return };
    if !std::path::Path::new("/dev/kmsg").exists() {
        eprintln!("skipped: no /dev/kmsg here");
        return;
    }
    it.spec.devices = vec!["/dev/kmsg".into()];
    it.spec.randomize = true;
    assert_eq!(
        it.output("stat -c '%F %n' /dev/kmsg; cat /proc/self/personality")
            .await,
        "character special file /dev/kmsg\n00000000\n"
    );
}

#[tokio::test]
async fn arguments_and_variables_are_bytes() {
    let Some(mut it) = Fixture::new() else { return };
    it.sh(r#"printf '%s|' "$0" "$@" "$odd"; printf 'a\r\n\000\377'"#);
    it.spec.argv.extend([
        b"zero".to_vec(),
        b"\xff\xfe".to_vec(),
        b"".to_vec(),
        b"new\nline".to_vec(),
    ]);
    it.spec.env.push((b"odd".to_vec(), b"\x80 = \x01".to_vec()));
    let (exit, log) = it.try_run().await;
    assert!(exit.unwrap().success());
    assert_eq!(log, b"zero|\xff\xfe||new\nline|\x80 = \x01|a\r\n\0\xff");
}

#[tokio::test]
async fn holds_no_network_but_its_own() {
    let Some(mut it) = Fixture::new() else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!(
        "nc -w 2 127.0.0.1 {port} < /dev/null && echo reached\n\
         for a in 8.8.8.8 169.254.169.254; do nc -w 2 $a 80 2>&1 < /dev/null; done; true"
    );
    let log = it.output(&script).await;
    assert!(
        !log.contains("reached") && log.matches("unreachable").count() == 2,
        "{log}"
    );
}
