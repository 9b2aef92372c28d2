//! Agreeing on a version, or refusing the session.

use tokio::io::{AsyncRead, AsyncWrite};

use super::version::REALISATION_WITH_PATH;
use super::{CLIENT_MAGIC, SERVER_MAGIC, StderrMessage, Version};
use crate::wire::{Decoder, WireError, WireLimits, WireReader, WireWriter};
use crate::{FREE, SessionError, SessionOptions};

pub(super) const HANDSHAKE: &str = "the handshake";
/// Build hooks send inputs as they are, signed or not, and the derivation with the paths that it claims.
const TRUSTED: u64 = 1;
/// They send the derivation's closure instead, and ask for it as a remote store is asked.
const NOT_TRUSTED: u64 = 2;

pub(super) async fn shake_hands<R, W>(
    reader: &mut WireReader<R>,
    writer: &mut WireWriter<W>,
    options: &SessionOptions,
) -> Result<Version, SessionError>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin,
{
    let wire = |e| SessionError::from_wire(HANDSHAKE, e);
    let io = |e| SessionError::from_io(HANDSHAKE, e);
    let limits = WireLimits {
        request_bytes: FREE,
        ..options.limits.clone()
    };
    let mut d = Decoder::new(reader, &limits);
    if d.u64("magic").await.map_err(wire)? != CLIENT_MAGIC {
        return Err(wire(WireError::invalid("magic", "not a Nix client")));
    }
    // Clients up to 2.18 send their version only after they have seen this.
    writer.out().u64(SERVER_MAGIC).u64(Version::NEWEST.to_wire());
    writer.flush().await.map_err(io)?;
    let stated = d.u64("version").await.map_err(wire)?;
    let Some(client) = Version::from_wire(stated) else {
        let text = format!("worker protocol version {stated:#x} is not served, only 1.x");
        return refuse(writer, Version::OLDEST, text).await;
    };
    let mut version = client.min(Version::NEWEST);
    if version.has_features() {
        let known = d.texts("features").await.map_err(wire)?;
        writer.out().texts(&[REALISATION_WITH_PATH.to_owned()]);
        writer.flush().await.map_err(io)?;
        if known.contains(REALISATION_WITH_PATH) {
            version = version.with_realisation_paths();
        }
    }
    if version.has_cpu_affinity() && d.bool("cpuAffinity").await.map_err(wire)? {
        d.u64("cpuAffinity").await.map_err(wire)?;
    }
    if version.has_reserve_space() {
        d.bool("reserveSpace").await.map_err(wire)?;
    }
    if version.has_daemon_version() {
        writer.out().text(&options.daemon_version);
    }
    if version.has_trust() {
        writer
            .out()
            .u64(if options.trusted { TRUSTED } else { NOT_TRUSTED });
    }
    if let Some(text) = &options.refusal {
        return refuse(writer, version, text.clone()).await;
    }
    if version < Version::OLDEST {
        let text = format!(
            "worker protocol {version} is too old: {} and later are served (Nix 2.0)",
            Version::OLDEST
        );
        return refuse(writer, version, text).await;
    }
    StderrMessage::Last.encode(version, writer.out());
    writer.flush().await.map_err(io)?;
    Ok(version)
}

async fn refuse<W: AsyncWrite + Unpin>(
    writer: &mut WireWriter<W>,
    version: Version,
    text: String,
) -> Result<Version, SessionError> {
    StderrMessage::Error(text.clone().into_bytes()).encode(version, writer.out());
    writer
        .flush()
        .await
        .map_err(|e| SessionError::from_io(HANDSHAKE, e))?;
    Err(SessionError::Refused(text))
}
