//! However the helper is started, the command sees the same.

use firn_sandbox::HelperCommand;

use super::fixture::{Fixture, example, root};

/// All that a process has of the one that started it, as far as it can see that.
const PICTURE: &str = r#"
busybox ulimit -a 2>/dev/null; ulimit -S -a; ulimit -H -a; umask
cat /proc/self/limits
grep -E '^(Sig|ShdPnd|Cap|NoNewPrivs|Seccomp|Speculation|Cpus_allowed|Mems_allowed|THP_enabled|Groups|Umask)' /proc/self/status
cut -d' ' -f 6,18,19,40,41 /proc/self/stat
cat /proc/self/oom_score_adj /proc/self/coredump_filter /proc/self/personality /proc/self/timerslack_ns
cat /proc/self/loginuid 2>/dev/null
busybox ionice; nproc
for fd in $(seq 0 40); do test -L /proc/1/fd/$fd && echo "fd $fd"; done
env; pwd; echo $-
"#;

/// Ways to start a program. The last one shows that some are odd together, too.
const ODD: [(&str, &str); 11] = [
    ("in the background", "trap '' INT QUIT"),
    ("deaf", "trap '' HUP INT QUIT PIPE TERM USR1 USR2 CHLD ALRM"),
    ("with another umask", "umask 077"),
    ("with few descriptors", "ulimit -S -n 512"),
    ("with a small stack", "ulimit -S -s 1024"),
    ("with little locked memory", "ulimit -S -l 64"),
    ("with descriptors", "exec 7</dev/null 8>/dev/null 9</"),
    ("nicely", "set -- nice -n 5 \"$@\""),
    ("on one processor", "set -- taskset -c 0 \"$@\""),
    ("idly", "set -- ionice -c 3 chrt -b 0 \"$@\""),
    (
        "all at once",
        "trap '' INT QUIT; umask 027; ulimit -S -n 400; ulimit -S -s 2048; echo 0 > /proc/self/coredump_filter
         set -- nice -n 7 taskset -c 0 \"$@\"",
    ),
];

/// What only those undo who may raise limits.
const LIMITED: [(&str, &str); 4] = [
    ("with a limit of descriptors", "ulimit -n 512"),
    ("with a limit of the stack", "ulimit -s 1024"),
    ("with a limit of processes", "ulimit -u 5000"),
    ("with a score", "echo 300 > /proc/self/oom_score_adj"),
];

#[tokio::test]
async fn nothing_of_how_the_helper_was_started_reaches_the_command() {
    if !root() {
        return;
    }
    let Some(mut it) = Fixture::new() else { return };
    let expected = it.output(PICTURE).await;
    let left = firn_sandbox::leftovers();
    let may = left.iter().all(|left| left.starts_with("filters="));
    if !may {
        println!("limits cannot be raised here, and are part of the sandbox's name: {left:?}");
    }
    for (how, first) in ODD.into_iter().chain(LIMITED.into_iter().filter(|_| may)) {
        it.helper = HelperCommand::new("/bin/sh")
            .arg("-c")
            .arg(format!("{first}\nexec \"$@\""))
            .arg("sh")
            .arg(example());
        assert_eq!(it.output(PICTURE).await, expected, "started {how}");
    }
    let told = left.iter().any(|left| left.starts_with("nofile="));
    assert!(
        told || expected.contains("Max open files            65536                65536"),
        "{expected}"
    );
}
