//! A command that ends by itself.

use std::time::{Duration, SystemTime};

use firn_nix::nar::{NarVisitor as _, NarWriter};
use firn_sandbox::{ExitKind, FileSpec};
use firn_vm::{Collected, VmExit};

use super::fixture::{BUSYBOX, DEV, Fixture, LINK, OUT, TOOLS, shared};

/// What a command can find out about its surroundings, but for the kernel's version, the time and the size of things.
const LOOK: &str = r#"
echo "id $(id -u):$(id -g) $(id -un) $(id -G)"
echo "pid $$"
echo "cwd $PWD $(readlink /proc/self/cwd)"
echo "host $(hostname) $(cat /proc/sys/kernel/domainname) $(cat /proc/sys/kernel/ostype)"
echo "umask $(umask)"
echo "core $(ulimit -S -c) stack $(ulimit -S -s)"
grep -E '^(CapInh|CapPrm|CapEff|CapAmb|NoNewPrivs|Seccomp|SigIgn|SigBlk|SigCgt|Uid|Gid|Groups):' /proc/self/status
for fd in 0 1 2 3 4 5 6 7 8 9; do test -L /proc/1/fd/$fd && echo "fd $fd"; done; readlink /proc/1/fd/0
test -t 1 && test -t 2 && echo "terminal"
cat /proc/self/personality
for f in / /etc /etc/passwd /tmp /dev/shm /dev/null /dev/pts/ptmx /nix /nix/store /build /build/.attrs.json /bin; do
  stat -c '%F %a %u:%g %n' $f
done
ls -a / /dev /etc /nix /nix/store /build /bin /tmp
for l in fd stdin stdout stderr ptmx; do echo "$l $(readlink /dev/$l)"; done
cat /etc/passwd /etc/group /build/.attrs.json; echo
stat -c '%F %a %u:%g %n' TOOLS TOOLS/bin TOOLS/bin/busybox
readlink LINK; ls LINK/
echo "net $(ls /proc/sys/net/ipv4/conf)"; ls /proc/sys/net/ipv6/conf
ip addr | grep -v 'mtu'
sed 's/^ *\([0-9]*\) .*/\1/' /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups
cat /proc/sys/user/max_user_namespaces
sed 's/.*://' /proc/self/cgroup | sed -n 1p
env | sort
touch /etc/x /x /bin/x TOOLS/x 2>&1
ln TOOLS/bin/busybox /nix/store/hard 2>&1
chmod 4755 /build/.attrs.json 2>&1
chmod 777 /etc 2>&1
rm -f TOOLS/bin/busybox LINK 2>&1
echo hello > /tmp/x && echo hello > /dev/shm/x && rm /tmp/x /dev/shm/x && echo "tmp works"
(echo secret > /proc/sys/kernel/hostname) 2>&1
true
"#;

fn look() -> String {
    LOOK.replace("TOOLS", TOOLS).replace("LINK", LINK)
}

/// Takes more memory and disk than there is. Shared memory counts as well, and half of the memory fits in there.
const TAKE: &str = r#"
echo ---; echo before; dd if=/dev/zero of=/dev/shm/x bs=1M count=230 2>&1
dd if=/dev/zero of=/dev/null bs=230M count=1 2>&1; echo dd $?; wc -c < large; echo after; rm /dev/shm/x
dd if=/dev/zero of=/build/file bs=1M 2>&1; stat -c %s /build/file; dd if=/dev/zero of=$out bs=1M count=5 2>&1
rm /build/file $out
"#;

#[tokio::test]
async fn a_build_sees_the_same_as_without_a_machine_and_lack_hits_the_command_alone() {
    let Some(prepared) = shared() else { return };
    let it = Fixture::new();
    let look = look();
    let build = format!(
        "{look}\necho ---; date +%s; cat /proc/net/dev; ls /sys /dev/vda 2>&1; uname -r{TAKE}
        mkdir -p $out/bin $dev; echo hello > $out/bin/hello; chmod 755 $out/bin/hello; ln -s bin/hello $out/link
        cp {TOOLS}/bin/busybox $dev/large; chmod 644 $dev/large; echo headers > $dev/file"
    );
    let mut job = it.job(&build, &[OUT, DEV]);
    job.build_files.push(FileSpec {
        path: "/build/large".into(),
        contents: vec![b'x'; 1_000_000],
        mode: 0o444,
    });
    let (exit, outside) = it.outside(&look, &job).await;
    assert!(exit.success(), "{exit:?}\n{outside}");
    let (exit, log, sink) = it.try_run(&prepared.machine, &job).await;
    let exit = exit.unwrap();
    assert_eq!(exit.exit.status, ExitKind::Exited(0), "{log}");
    assert_eq!(exit.exit.log_bytes, log.len() as u64);
    assert!(exit.machine.user > Duration::ZERO && exit.boot > Duration::ZERO);
    assert_eq!((&exit.outputs, sink.1), (&Collected::All, 2));
    assert!(
        sink.0 == expected(),
        "{:?}",
        sink.0.iter().map(Vec::len).collect::<Vec<_>>()
    );
    let parts: Vec<&str> = log.split("---\n").collect();
    let [inside, rest, taken] = parts[..] else {
        panic!("{log}")
    };
    looks_alike(inside, &outside);
    is_a_machine(rest, &prepared.machine.manifest().kernel_release);
    went_without(&exit, taken);
}

fn looks_alike(inside: &str, outside: &str) {
    for (number, (inside, outside)) in inside.lines().zip(outside.lines()).enumerate() {
        assert_eq!(inside, outside, "line {number}");
    }
    assert_eq!(inside, outside);
}

fn is_a_machine(told: &str, kernel_release: &str) {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let time: u64 = told.lines().next().unwrap().parse().unwrap();
    assert!(time.abs_diff(now) < 600, "{time} {now}");
    let devices: Vec<_> = told.lines().filter(|line| line.contains(": ")).collect();
    assert!(
        devices.iter().any(|line| line.trim().starts_with("lo:")),
        "{told}"
    );
    assert_eq!(devices.len(), 3, "lo, and nothing at /sys and /dev/vda: {told}");
    assert!(told.contains(kernel_release), "{told}");
}

/// One process of the command was killed, two writes failed, and everything else went on.
fn went_without(exit: &VmExit, told: &str) {
    let (memory, disk) = told.split_once("after\n").unwrap();
    assert!(
        memory.starts_with("before\n") && memory.ends_with("dd 137\n1000000\n"),
        "{told}"
    );
    assert_eq!(exit.oom_kills, 1);
    assert_eq!(disk.matches("No space left on device").count(), 2, "{told}");
    let size: u64 = disk.lines().find_map(|line| line.parse().ok()).unwrap();
    assert!(size > 50 << 20 && size < 64 << 20, "{size}");
    assert!(exit.disk_free.unwrap() > 50 << 20);
}

fn expected() -> Vec<Vec<u8>> {
    let archive = |write: fn(&mut NarWriter<Vec<u8>>) -> std::io::Result<()>| {
        let mut writer = NarWriter::new(Vec::new());
        write(&mut writer).unwrap();
        writer.into_inner()
    };
    let out = archive(|nar| {
        nar.directory()?;
        nar.entry(b"bin")?;
        nar.directory()?;
        nar.entry(b"hello")?;
        nar.regular(true, 6)?;
        nar.data(b"hello\n")?;
        nar.end_regular()?;
        nar.end_directory()?;
        nar.entry(b"link")?;
        nar.symlink(b"bin/hello")?;
        nar.end_directory()
    });
    let dev = archive(|nar| {
        nar.directory()?;
        nar.entry(b"file")?;
        nar.regular(false, 8)?;
        nar.data(b"headers\n")?;
        nar.end_regular()?;
        let busybox = std::fs::read(BUSYBOX)?;
        nar.entry(b"large")?;
        nar.regular(false, busybox.len() as u64)?;
        nar.data(&busybox)?;
        nar.end_regular()?;
        nar.end_directory()
    });
    vec![out, dev]
}
