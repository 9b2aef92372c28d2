//! A command line of the shell: from words to a command, and what may follow them.

use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use super::Command;

/// A line as it is meant.
#[derive(Debug)]
pub enum Line {
    /// Do this.
    Run(Box<Command>),
    /// A question about the commands, and its answer.
    Help(String),
    /// Enough.
    Exit,
}

/// Firn: commands of your account
#[derive(Parser)]
#[command(multicall = true)]
struct Words {
    #[command(subcommand)]
    word: Word,
}

#[derive(Subcommand)]
enum Word {
    #[command(flatten)]
    Command(Command),
    /// End the session
    #[command(visible_alias = "quit")]
    Exit,
}

/// The meaning of words.
///
/// # Errors
/// What a person can read: which word is wrong, and what is right.
pub fn parse(words: &[Vec<u8>]) -> Result<Line, String> {
    let words: Result<Vec<&str>, _> = words.iter().map(|word| std::str::from_utf8(word)).collect();
    let mut words = words.map_err(|_| "the command is not UTF-8".to_owned())?;
    if let [word @ ("--help" | "-h" | "?")] = words.as_mut_slice() {
        *word = "help";
    }
    let matched = Words::command()
        .color(clap::ColorChoice::Never)
        .try_get_matches_from(words)
        .and_then(|matches| Words::from_arg_matches(&matches));
    match matched {
        Ok(Words {
            word: Word::Command(command),
        }) => Ok(Line::Run(Box::new(command))),
        Ok(Words { word: Word::Exit }) => Ok(Line::Exit),
        Err(error) => {
            let text = error.render().to_string();
            match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                    Ok(Line::Help(text.trim_end().to_owned()))
                }
                _ => Err(text.trim().trim_start_matches("error: ").to_owned()),
            }
        }
    }
}

/// What may stand for the last word of a line: commands, options, and names of settings.
pub fn complete(line: &str) -> Vec<String> {
    let mut words: Vec<&str> = line.split_whitespace().collect();
    if !line.ends_with(char::is_whitespace) {
        words.pop();
    }
    let mut command = &Words::command();
    let mut path = Vec::new();
    for word in &words {
        match command.find_subcommand(word) {
            Some(found) => {
                path.push(found.get_name());
                command = found;
            }
            None if *word == "help" && path.is_empty() => {}
            None => path.push("…"),
        }
    }
    let mut candidates: Vec<String> = command
        .get_subcommands()
        .filter(|_| path.last() != Some(&"…"))
        .map(|sub| sub.get_name().to_owned())
        .collect();
    match path.as_slice() {
        [] if words.is_empty() => candidates.push("help".into()),
        ["settings", "get" | "set" | "unset"] => {
            candidates.extend(firn_core::SETTINGS.iter().map(|setting| setting.name.to_owned()));
        }
        ["trust" | "readers", "add", "…"] => candidates.extend(["builds".into(), "uploads".into()]),
        _ => {}
    }
    if path.first() == Some(&"…") {
        return Vec::new();
    }
    for argument in command.get_arguments() {
        candidates.extend(argument.get_long().map(|long| format!("--{long}")));
    }
    candidates.sort();
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Line, String> {
        parse(&firn_ssh::split_words(line.as_bytes()).unwrap())
    }

    #[test]
    fn the_definitions_are_sound() {
        Words::command().debug_assert();
    }

    #[test]
    fn every_command_is_understood() {
        for line in [
            "settings",
            "settings list --key SHA256:x",
            "settings get timeout",
            "settings set substituters https://a https://b --key SHA256:x",
            "settings unset timeout",
            "ssh-keys list",
            "ssh-keys add ssh-ed25519 AAAA a comment",
            "ssh-keys remove SHA256:x --yes-last",
            "trusted-keys list",
            "trusted-keys add a:b",
            "trusted-keys remove a",
            "substituters list",
            "substituters add https://a",
            "substituters remove https://a",
            "trust list",
            "trust add bob builds",
            "trust remove bob",
            "readers list",
            "readers add bob uploads",
            "readers remove bob",
            "logins list",
            "logins set host ''",
            "logins remove host",
            "signing-key show",
            "signing-key rotate",
            "signing-key import",
            "builds --limit 3",
            "builds --running",
            "log /nix/store/x",
            "log hello",
            "usage",
            "usage --since 7d --by-day",
            "reproducibility",
            "explain /nix/store/x",
            "explain --diff /nix/store/x sha256:0 --limit 3",
            "forget /nix/store/x /nix/store/y",
            "whoami",
        ] {
            assert!(
                matches!(parsed(line), Ok(Line::Run(_))),
                "{line}: {:?}",
                parsed(line)
            );
        }
        assert!(matches!(parsed("exit"), Ok(Line::Exit)) && matches!(parsed("quit"), Ok(Line::Exit)));
    }

    #[test]
    fn help_is_an_answer_and_errors_name_the_word() {
        for line in [
            "help",
            "--help",
            "help trust",
            "help trust add",
            "trust --help",
            "trust add -h",
        ] {
            let Ok(Line::Help(text)) = parsed(line) else {
                panic!("{line}: {:?}", parsed(line))
            };
            assert!(!text.contains('\u{1b}'), "{text}");
            assert_eq!(line.contains("trust"), text.contains("It takes two"), "{text}");
        }
        for (line, names) in [
            ("setings", "'settings'"),
            ("settings set", "<NAME>"),
            ("trust add bob everything", "[possible values: builds, uploads]"),
            ("builds --limit x", "'x'"),
            ("ssh-keys", "Usage: ssh-keys <COMMAND>"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(names) && !error.starts_with("error"), "{error}");
        }
        assert!(parse(&[vec![0xff]]).is_err());
    }

    #[test]
    fn words_are_completed() {
        assert!(complete("").contains(&"help".to_owned()));
        assert!(complete("se").contains(&"settings".to_owned()));
        assert!(complete("help tru").contains(&"trust".to_owned()));
        assert_eq!(complete("settings "), ["--key", "get", "list", "set", "unset"]);
        assert!(complete("settings get time").contains(&"timeout".to_owned()));
        assert!(
            complete("settings set allow-shell f")
                .iter()
                .all(|word| word.starts_with("--"))
        );
        assert!(complete("trust add bob ").contains(&"uploads".to_owned()));
        assert!(complete("ssh-keys remove x --").contains(&"--yes-last".to_owned()));
        assert!(complete("nonsense more ").is_empty());
    }
}
