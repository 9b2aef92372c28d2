//! What the builds of a command's Firn run in.

use anyhow::bail;
use firn_testkit::Server;

/// Bytes of memory of each machine.
const MEMORY: u64 = 2 << 30;

/// What builds run in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// Namespaces of this machine.
    #[default]
    Namespaces,
    /// Virtual machines.
    Machines,
}

impl Sandbox {
    /// As in Firn's configuration: `namespaces` or `vm`.
    ///
    /// # Errors
    /// For another word.
    pub fn parse(word: &str) -> anyhow::Result<Self> {
        match word {
            "namespaces" => Ok(Self::Namespaces),
            "vm" => Ok(Self::Machines),
            _ => bail!("there is no sandbox {word}; there are namespaces and vm"),
        }
    }

    /// Starts a server again with these sandboxes, the preferred first, and lines in its `[build]`. Machines are prepared. What executes their
    /// instructions is printed: the processor, or a translator where there is no help from it.
    ///
    /// # Errors
    /// When machines cannot be prepared, or the server does not get ready.
    pub fn restart(sandboxes: &[Self], server: &mut Server, build: &str) -> anyhow::Result<()> {
        server.stop();
        let build = format!(
            "[build]\nsandboxes = {:?}\n{build}",
            sandboxes.iter().map(|it| it.name()).collect::<Vec<_>>()
        );
        if sandboxes.contains(&Self::Machines) {
            machines(server, &build)?;
        } else {
            server.configure(&build)?;
        }
        server.launch()
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Machines => "vm",
        }
    }
}

fn machines(server: &Server, build: &str) -> anyhow::Result<()> {
    let configure = |accelerator: &str| {
        server.configure(&format!(
            "{build}\n[vm]\naccelerator = \"{accelerator}\"\nmemory = {MEMORY}\nboot-timeout = 600\n"
        ))
    };
    configure("kvm")?;
    server.firn(&["vm", "prepare"])?.success()?;
    let said = server.firn(&["doctor"])?;
    let missing = said
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("MISSING  KVM: "));
    match missing {
        None => println!("    machines run by KVM"),
        Some(why) => {
            println!("    machines run by TCG, because KVM is of no use here: {why}");
            configure("tcg")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert_eq!(Sandbox::parse("vm").unwrap(), Sandbox::Machines);
        assert_eq!(Sandbox::parse("namespaces").unwrap(), Sandbox::default());
        assert!(Sandbox::parse("none").is_err());
    }
}
