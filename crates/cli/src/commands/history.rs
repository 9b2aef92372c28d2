//! `builds` and `log`: what happened, and what happens.

use clap::Args;
use firn_core::Rung;
use firn_service::ports::{Ports, RequestRecord};
use firn_service::{BuildLog, Desk, RunningBuild, StoppedBuild, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Reply;

/// `builds`
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub struct Builds {
    /// How many, the newest first
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: u32,
    /// What has not ended: what a client waits for, and what goes on without one
    #[arg(long, conflicts_with = "limit")]
    #[serde(default)]
    running: bool,
    /// End what goes on without a client: by its number, derivation or package
    #[arg(long, conflicts_with_all = ["limit", "running"], value_name = "DRV|BUILD")]
    #[serde(default)]
    stop: Option<String>,
}

/// Bytes of a log in one answer; of a longer one, the last.
const TAIL: usize = 4 << 20;

/// `log`
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub struct Log {
    /// A derivation or its output, with or without /nix/store/; or a package's name: its latest build
    #[arg(value_name = "DRV")]
    pub wanted: String,
}

impl Log {
    /// What there is of the log now, for whoever cannot follow it.
    pub(super) async fn run<P: Ports>(self, desk: &Desk<P>) -> Result<Reply, StoreError> {
        let mut log = desk.log(&self.wanted).await?;
        let mut text = Vec::new();
        while let Some(chunk) = log.next_now()? {
            text.extend_from_slice(&chunk);
            if text.len() > 2 * TAIL {
                text.drain(..text.len() - TAIL);
            }
        }
        text.drain(..text.len().saturating_sub(TAIL));
        let text = shown(&text);
        let mut value = about(&log);
        if let Some(members) = value.as_object_mut() {
            members.insert("log".into(), json!(text));
        }
        Ok(Reply {
            value,
            text: text.trim_end_matches('\n').to_owned(),
        })
    }
}

/// What is said of a log before its lines.
pub fn about(log: &BuildLog) -> Value {
    json!({
        "derivation": log.drv_path.to_string(),
        "build": log.build.map(|build| build.to_string()),
        "source": log.source.name(),
    })
}

/// A builder's bytes as text for a person or JSON.
#[expect(clippy::disallowed_methods, reason = "a log, for people")]
pub fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Builds {
    pub(super) async fn run<P: Ports>(self, desk: &Desk<P>) -> Result<Reply, StoreError> {
        if let Some(wanted) = self.stop {
            let stopped = desk.stop(&wanted).await?;
            return Ok(Reply::told(stopped_value(&stopped), &stopped_text(&stopped)));
        }
        if self.running {
            return Ok(Reply::table(
                desk.running().iter().map(running).collect(),
                &["state", "detached", "derivation"],
                "nothing runs",
            ));
        }
        let requests = desk.builds(self.limit).await?;
        Ok(Reply::table(
            requests.iter().map(row).collect(),
            &["time", "rung", "wall_ms", "reason"],
            "no requests yet",
        ))
    }
}

fn row(request: &RequestRecord) -> Value {
    json!({
        "derivation": request.drv_path.to_string(),
        "rung": request.rung.map(Rung::name),
        "reason": request.reason.as_str(),
        "build": request.build.map(|build| build.to_string()),
        "time": request.time,
        "wall_ms": request.wall_ms,
    })
}

fn stopped_value(stopped: &StoppedBuild) -> Value {
    json!({
        "derivation": stopped.drv_path.to_string(),
        "build": stopped.build.to_string(),
        "apart": stopped.apart,
    })
}

fn stopped_text(stopped: &StoppedBuild) -> String {
    let name = stopped.drv_path.derivation_name();
    let name = name.unwrap_or_else(|| stopped.drv_path.name());
    let apart = match stopped.apart {
        true => {
            ": what came out of it is thrown away, and when this account builds it again, that is for this account alone until another one has built it"
        }
        false => "",
    };
    format!("stopped {name}{apart}")
}

fn running(build: &RunningBuild) -> Value {
    json!({
        "derivation": build.drv_path.to_string(),
        "build": build.build.map(|build| build.to_string()),
        "state": if build.queued { "waiting" } else { "running" },
        "detached": build.detached,
    })
}
