//! The lines that `firn serve` prints, pasted as they are, with host key checking on.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use firn_testkit::{Nix, Root, Run};

use crate::{Server, derivation, server};

/// What stands below a heading, without its indentation and what follows a blank line at that level.
fn block<'t>(printed: &'t str, heading: &str) -> Vec<&'t str> {
    let after = printed
        .split(heading)
        .nth(1)
        .unwrap_or_else(|| panic!("no '{heading}' in\n{printed}"));
    let lines = after.lines().skip(1);
    lines
        .take_while(|line| line.is_empty() || line.starts_with("  "))
        .filter_map(|line| line.strip_prefix("  "))
        .collect()
}

/// A person's home, with a key, and what was pasted into its files.
struct Home {
    dir: PathBuf,
    ssh_config: PathBuf,
    nix_conf: Vec<String>,
}

impl Home {
    /// Follows what the server says. `~` is this home: OpenSSH would take the one of the user database.
    fn new(server: &Server, dir: &Path, name: &str) -> Self {
        let printed = server.banner().unwrap();
        std::fs::create_dir_all(dir.join(".ssh")).unwrap();
        let key = dir.join(".ssh/id_ed25519");
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&key)
            .stdin(Stdio::null())
            .status();
        assert!(made.unwrap().success());
        let pasted = |heading: &str| -> Vec<String> {
            let home = dir.to_str().unwrap();
            let lines = block(&printed, heading).into_iter();
            lines
                .map(|line| line.replace('~', home).replace("alice", name))
                .collect()
        };
        let add = pasted("Let somebody in").concat();
        let added = Command::new("sh")
            .args(["-c", &add])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(added.status.success(), "{add}\n{added:?}");
        let known_hosts = dir.join(".ssh/known_hosts");
        std::fs::write(&known_hosts, pasted("In known_hosts:").join("\n") + "\n").unwrap();
        let ssh_config = dir.join(".ssh/config");
        let mut lines = pasted("In the ssh_config");
        // What a home of its own would mean, and no questions.
        lines.push("Host *".into());
        lines.push(format!("  UserKnownHostsFile {}", known_hosts.display()));
        lines.push("  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n  BatchMode yes\n".into());
        std::fs::write(&ssh_config, lines.join("\n")).unwrap();
        Self {
            dir: dir.to_owned(),
            ssh_config,
            nix_conf: pasted("In nix.conf:"),
        }
    }

    fn ssh(&self, words: &[&str]) -> std::process::Output {
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(&self.ssh_config).arg("firn").args(words);
        ssh.stdin(Stdio::null()).output().unwrap()
    }

    /// Builds something with the pasted lines in nix.conf and nothing else said.
    fn build(&self, root: Option<&Root>, name: &str) -> Run {
        let mut nix = Nix::new(&self.dir).unwrap();
        if let Some(root) = root {
            nix.enter(root);
        }
        nix.set("NIX_SSHOPTS", format!("-F {}", self.ssh_config.display()));
        let file = self.dir.join("conf/nix.conf");
        let own = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, own + &self.nix_conf.join("\n") + "\n").unwrap();
        let text = derivation(name, "echo pasted > $out");
        let drvs = nix.instantiate(&nix.expression(&text).unwrap(), &[]).unwrap();
        nix.run("nix-store", &["--realise", &drvs[0]]).unwrap()
    }
}

fn pasted_lines_work(server: &Server, name: &str, root: Option<&Root>) {
    let home = Home::new(server, &server.data_dir().join("../homes").join(name), name);
    let whoami = home.ssh(&["shell", "whoami"]);
    let said = whoami.stdout.escape_ascii().to_string();
    assert!(
        whoami.status.success() && said.contains(&format!("account: {name}")),
        "{whoami:?}"
    );
    let run = home.build(root, name);
    assert!(run.ok, "{}\n{}", run.stdout, run.stderr);
    assert!(
        run.stderr.contains(&format!("firn: built {name}")),
        "{}",
        run.stderr
    );
}

#[test]
fn what_is_printed_works_when_it_is_pasted() {
    let Some(server) = server() else { return };
    pasted_lines_work(&server, "alice", None);
}

/// The same with each other release of Nix that is here.
#[test]
fn with_other_versions_of_nix_too() {
    let Some(server) = server() else { return };
    for release in ["trixie", "sid"] {
        let dir = Path::new(env!("CARGO_BIN_EXE_firn"))
            .ancestors()
            .nth(2)
            .unwrap()
            .join("clients")
            .join(release);
        match Root::open(&dir) {
            Ok(root) => pasted_lines_work(&server, release, Some(&root)),
            Err(why) => eprintln!("skipped: {release}: {why}"),
        }
    }
}

/// A key that is not the pasted one is refused: the lines are what makes the check pass.
#[test]
fn another_host_key_is_refused() {
    let Some(server) = server() else { return };
    let home = Home::new(&server, &server.data_dir().join("../homes/eve"), "eve");
    let other = home.dir.join("other");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&other)
        .stdin(Stdio::null())
        .status();
    assert!(made.unwrap().success());
    let key = std::fs::read_to_string(other.with_extension("pub")).unwrap();
    std::fs::write(home.dir.join(".ssh/known_hosts"), format!("firn {key}")).unwrap();
    let refused = home.ssh(&["shell", "whoami"]);
    let said = refused.stderr.escape_ascii().to_string();
    assert!(
        !refused.status.success() && said.contains("Host key verification failed"),
        "{said}"
    );
}
