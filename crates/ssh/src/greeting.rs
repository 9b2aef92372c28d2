//! The first words of a connection, exchanged here instead of in russh to give the server a say in the cipher.
//!
//! In SSH the first cipher of the client's list that the server offers wins, and OpenSSH's list begins with
//! ChaCha20-Poly1305, which costs both sides several times the processor time of AES-GCM on a processor with AES
//! instructions. Leaving it out for everybody would lose the clients that have nothing else. But either side may
//! send its list first (RFC 4253 section 7.1), and the client's is not encrypted: so the server waits for it for a
//! moment, and leaves out the slow ciphers only for a client that offers the fast ones.
//!
//! A client that is farther away than [`KEXINIT_TIME`], or that waits for the server's list itself, gets the whole
//! list; it pays at most that time, once per connection.

use std::io::Result;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// The identification string, as sent.
pub(crate) const IDENTIFICATION: &str = "SSH-2.0-Firn";
/// How long the server waits for the client's list after its identification.
const KEXINIT_TIME: Duration = Duration::from_millis(20);
/// What is read at most, in bytes: lines before the identification, and a list.
const MAX_LENGTH: usize = 16 * 1024;
/// `SSH_MSG_KEXINIT`.
const KEXINIT: u8 = 20;
const FAST: [&[u8]; 2] = [b"aes128-gcm@openssh.com", b"aes256-gcm@openssh.com"];

/// What a client has sent so far.
pub(crate) struct Greeting {
    /// All of it; russh has to see it again.
    pub(crate) received: Vec<u8>,
    /// Whether it is known to accept AES-GCM in both directions.
    pub(crate) accepts_aes_gcm: bool,
}

/// Sends the identification, and waits for the client's; with `look` also, for a moment, for its list of algorithms.
pub(crate) async fn greet<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, look: bool) -> Result<Greeting> {
    stream.write_all(IDENTIFICATION.as_bytes()).await?;
    stream.write_all(b"\r\n").await?;
    let mut received = Vec::new();
    if look {
        read_until(stream, &mut received, |bytes| {
            after_identification(bytes).is_some()
        })
        .await?;
        let list = read_until(stream, &mut received, |bytes| first_payload(bytes).is_some());
        if let Ok(read) = timeout(KEXINIT_TIME, list).await {
            read?;
        }
    }
    let accepts_aes_gcm =
        first_payload(&received).is_some_and(|payload| lists_aes_gcm(payload).unwrap_or(false));
    Ok(Greeting {
        received,
        accepts_aes_gcm,
    })
}

/// Reads until `enough` holds, or there is too much or nothing more.
async fn read_until<S: AsyncRead + Unpin>(
    stream: &mut S,
    received: &mut Vec<u8>,
    enough: impl Fn(&[u8]) -> bool,
) -> Result<()> {
    let mut block = [0; 4096];
    while received.len() < MAX_LENGTH && !enough(received) {
        let length = stream.read(&mut block).await?;
        if length == 0 {
            break;
        }
        received.extend_from_slice(block.get(..length).unwrap_or_default());
    }
    Ok(())
}

/// What follows the identification line; lines before it are allowed.
fn after_identification(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let (line, rest) = bytes.split_at_checked(end + 1)?;
        if line.starts_with(b"SSH-") {
            return Some(rest);
        }
        bytes = rest;
    }
}

/// The payload of the first packet (RFC 4253 section 6), once all of it is here.
fn first_payload(received: &[u8]) -> Option<&[u8]> {
    let (length, rest) = after_identification(received)?.split_first_chunk()?;
    let (packet, _) = rest.split_at_checked(u32::from_be_bytes(*length).try_into().ok()?)?;
    let (padding, rest) = packet.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(*padding))?)
}

/// Whether a client's list (RFC 4253 section 7.1) has AES-GCM in both directions.
fn lists_aes_gcm(payload: &[u8]) -> Option<bool> {
    const COOKIE: usize = 16;
    let (kind, rest) = payload.split_first()?;
    let (_, mut rest) = rest.split_at_checked(COOKIE)?;
    let mut next_list = || {
        let (length, after) = rest.split_first_chunk()?;
        let (list, after) = after.split_at_checked(u32::from_be_bytes(*length).try_into().ok()?)?;
        rest = after;
        Some(list)
    };
    let (_key_exchange, _host_key) = (next_list()?, next_list()?);
    let (to_server, to_client) = (next_list()?, next_list()?);
    let fast = |list: &[u8]| list.split(|byte| *byte == b',').any(|name| FAST.contains(&name));
    Some(*kind == KEXINIT && fast(to_server) && fast(to_client))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(to_server: &str, to_client: &str) -> Vec<u8> {
        let mut payload = vec![KEXINIT];
        payload.extend([7; 16]);
        for list in ["curve25519-sha256", "ssh-ed25519", to_server, to_client, "none"] {
            payload.extend(u32::try_from(list.len()).unwrap().to_be_bytes());
            payload.extend(list.as_bytes());
        }
        let mut bytes = b"a line before\r\nSSH-2.0-Test a comment\r\n".to_vec();
        bytes.extend(u32::try_from(payload.len() + 5).unwrap().to_be_bytes());
        bytes.push(4);
        bytes.extend(payload);
        bytes.extend([0; 4]);
        bytes
    }

    async fn greeted(bytes: &[u8]) -> Greeting {
        let (mut ours, mut theirs) = tokio::io::duplex(64);
        let sending = async {
            theirs.write_all(bytes).await.unwrap();
            // Kept open: the server must not wait for more.
            theirs
        };
        let (greeting, _theirs) = tokio::join!(greet(&mut ours, true), sending);
        greeting.unwrap()
    }

    #[tokio::test]
    async fn aes_gcm_is_found_in_both_directions() {
        let chacha = "chacha20-poly1305@openssh.com";
        let both = format!("{chacha},aes256-gcm@openssh.com");
        for (to_server, to_client, expected) in [
            (both.as_str(), both.as_str(), true),
            ("aes128-gcm@openssh.com", &both, true),
            (&both, chacha, false),
            (chacha, &both, false),
            (chacha, chacha, false),
            ("", "", false),
        ] {
            let bytes = hello(to_server, to_client);
            let greeting = greeted(&bytes).await;
            assert_eq!(greeting.accepts_aes_gcm, expected, "{to_server} {to_client}");
            assert_eq!(greeting.received, bytes);
        }
    }

    #[tokio::test]
    async fn every_part_of_a_hello_is_handed_on() {
        let bytes = hello("aes256-gcm@openssh.com", "aes256-gcm@openssh.com");
        let identified = bytes.iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        for length in identified..bytes.len() {
            let greeting = greeted(&bytes[..length]).await;
            assert!(!greeting.accepts_aes_gcm);
            assert_eq!(greeting.received, bytes[..length]);
        }
    }

    #[tokio::test]
    async fn garbage_is_handed_on() {
        let endless = vec![b'x'; MAX_LENGTH];
        assert_eq!(greeted(&endless).await.received, endless);
        let huge = [b"SSH-2.0-x\n", &[0xff; 100][..]].concat();
        assert!(!greeted(&huge).await.accepts_aes_gcm);
    }
}
