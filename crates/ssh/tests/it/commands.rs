//! Exec requests: what real clients send, what is refused, and that nothing else can happen.

use firn_ssh::{Command, CommandError, parse_command};
use proptest::prelude::*;

#[test]
fn what_clients_send() {
    let daemon = [
        "nix-daemon --stdio",
        " nix-daemon   --stdio ",
        "/usr/bin/nix-daemon --stdio",
        "/nix/var/nix/profiles/default/bin/nix-daemon --stdio",
        "'nix-daemon' --stdio",
        "nix daemon --stdio",
        "/run/current-system/sw/bin/nix daemon --stdio",
        "nix --extra-experimental-features nix-command daemon --stdio",
        "nix --extra-experimental-features 'nix-command flakes' daemon --stdio",
        "nix-daemon --stdio --store 'ssh-ng://x?a=b&c=d'",
        "nix-daemon --stdio --store \"auto\"",
        "nix-daemon --stdio --store /tmp/a?root=/x&y=z",
        "nix-daemon --stdio --store daemon --process-ops",
        "nix-daemon --stdio --option substitute false",
    ];
    for text in daemon {
        assert_eq!(
            parse_command(text.as_bytes()),
            Ok(Command::WorkerDaemon),
            "{text}"
        );
    }
    for text in [
        "nix-store --serve --write",
        "/usr/bin/nix-store --serve --write",
        "nix-store --serve --write --store 'local?root=/x'",
        "nix-store --store daemon --serve --write",
    ] {
        assert_eq!(
            parse_command(text.as_bytes()),
            Ok(Command::Serve { write: true }),
            "{text}"
        );
    }
    assert_eq!(
        parse_command(b"nix-store --serve"),
        Ok(Command::Serve { write: false })
    );
    let shell = parse_command(b"shell 'log this' x").unwrap();
    assert_eq!(
        shell,
        Command::Shell {
            json: false,
            words: vec![b"log this".to_vec(), b"x".to_vec()],
            terminal: None,
        }
    );
    assert_eq!(shell.to_string(), "shell log this", "one word, no more");
    assert_eq!(
        parse_command(b"api"),
        Ok(Command::Shell {
            json: true,
            words: Vec::new(),
            terminal: None
        })
    );
}

#[test]
fn what_is_refused() {
    assert_eq!(parse_command(b""), Err(CommandError::Empty));
    assert_eq!(parse_command(b" \t"), Err(CommandError::Empty));
    assert_eq!(
        parse_command(&[b'a'; 10_000]),
        Err(CommandError::TooLong { length: 10_000 })
    );
    for text in ["'nix-daemon", "nix-daemon --stdio \"", "\\"] {
        assert!(
            matches!(
                parse_command(text.as_bytes()),
                Err(CommandError::UnbalancedQuote { .. })
            ),
            "{text}"
        );
    }
    for text in [
        "bash",
        "nix",
        "nix build",
        "nix-daemon.exe --stdio",
        "nix-daemon/ --stdio",
        "sh -c 'nix-daemon --stdio'",
        "/bin/shell",
    ] {
        assert!(
            matches!(
                parse_command(text.as_bytes()),
                Err(CommandError::UnknownProgram { .. })
            ),
            "{text}"
        );
    }
    for text in [
        "nix-daemon",
        "nix-daemon --stdio --store",
        "nix-store --write",
        "nix daemon",
    ] {
        assert!(
            matches!(
                parse_command(text.as_bytes()),
                Err(CommandError::MissingArgument { .. })
            ),
            "{text}"
        );
    }
    for text in [
        "nix-daemon --stdio; id",
        "nix-daemon --stdio && id",
        "nix-daemon --stdio --store x;id y",
        "nix-daemon --stdio --store $(touch x)",
        "nix-daemon --stdio --trust",
        "nix-store --serve --write\0",
        "nix-store --serve -r x",
    ] {
        assert!(
            matches!(
                parse_command(text.as_bytes()),
                Err(CommandError::UnknownArgument { .. })
            ),
            "{text}"
        );
    }
}

#[test]
fn errors_name_what_was_asked_and_what_is_offered() {
    let error = parse_command(b"rm -rf /\x1b[31m\xff").unwrap_err().to_string();
    assert!(error.contains("`rm -rf /\\x1b[31m\\xff`"), "{error}");
    assert!(
        error.contains("nix-daemon --stdio") && error.contains("nix-store --serve"),
        "{error}"
    );
    let error = parse_command(&[b'x'; 5000]).unwrap_err().to_string();
    assert!(error.len() < 700, "{error}");
}

fn quoted(word: &[u8]) -> Vec<u8> {
    let mut text = vec![b'\''];
    for byte in word {
        if *byte == b'\'' {
            text.extend(b"'\\''")
        } else {
            text.push(*byte)
        }
    }
    text.push(b'\'');
    text
}

proptest! {
    #[test]
    fn any_bytes_parse_or_fail_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Err(error) = parse_command(&bytes) {
            prop_assert!(error.to_string().is_ascii() || error.to_string().contains('…'));
        }
    }

    #[test]
    fn a_store_of_any_bytes_is_one_ignored_word(uri in proptest::collection::vec(any::<u8>(), 0..300)) {
        let request = [b"nix-daemon --stdio --store ", &quoted(&uri)[..]].concat();
        prop_assert_eq!(parse_command(&request), Ok(Command::WorkerDaemon));
    }

    #[test]
    fn nothing_but_the_offered_words_is_a_session(words in proptest::collection::vec("[a-z;&|$()<>`*~-]{1,8}", 1..5)) {
        let request = words.join(" ");
        let offered = parse_command(request.as_bytes());
        let reserved = words[0] == "shell" || words[0] == "api";
        prop_assert_eq!(offered.is_ok(), reserved, "{}", request);
    }
}
