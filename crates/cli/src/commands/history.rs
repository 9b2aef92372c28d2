//! `builds` and `usage`: what happened.

use clap::Args;
use firn_core::Rung;
use firn_service::ports::{Ports, RequestRecord, Usage};
use firn_service::{Desk, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Reply;

/// What failed stands for, where a rung does for what did not.
const FAILED: &str = "failed";

/// `builds`
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub struct Builds {
    /// How many, the newest first
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: u32,
}

impl Builds {
    pub(super) async fn run<P: Ports>(self, desk: &Desk<P>) -> Result<Reply, StoreError> {
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
        "reason": request.reason,
        "build": request.build.map(|build| build.to_string()),
        "time": request.time,
        "wall_ms": request.wall_ms,
    })
}

pub(super) async fn usage<P: Ports>(desk: &Desk<P>) -> Result<Reply, StoreError> {
    let usage = desk.usage().await?;
    Ok(Reply::told(value(&usage), &text(&usage)))
}

fn name(rung: Option<Rung>) -> &'static str {
    rung.map_or(FAILED, Rung::name)
}

fn value(usage: &Usage) -> Value {
    let requests: Map<String, Value> = usage
        .requests
        .iter()
        .map(|(rung, count)| (name(*rung).to_owned(), json!(count)))
        .collect();
    json!({
        "requests": requests,
        "cpu_us": usage.cpu_us,
        "saved_cpu_us": usage.saved_cpu_us,
        "paths": usage.paths,
        "bytes": usage.bytes,
    })
}

fn text(usage: &Usage) -> String {
    let total: u64 = usage.requests.values().sum();
    let mut lines = vec![format!("requests: {total}")];
    for (rung, count) in &usage.requests {
        lines.push(format!("  {}: {count}", name(*rung)));
    }
    lines.push(format!("processor time used: {}", seconds(usage.cpu_us)));
    lines.push(format!("processor time saved: {}", seconds(usage.saved_cpu_us)));
    lines.push(format!("store paths: {}, {} bytes", usage.paths, usage.bytes));
    lines.join("\n")
}

fn seconds(micros: u64) -> String {
    format!("{}.{:03} s", micros / 1_000_000, micros / 1000 % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_counts_by_rung() {
        let usage = Usage {
            requests: [(None, 2), (Some(Rung::Built), 3)].into(),
            cpu_us: 1_234_567,
            saved_cpu_us: 900,
            paths: 4,
            bytes: 5,
        };
        assert_eq!(
            text(&usage),
            "requests: 5\n  failed: 2\n  built: 3\nprocessor time used: 1.234 s\nprocessor time saved: 0.000 s\n\
             store paths: 4, 5 bytes"
        );
        assert_eq!(value(&usage)["requests"], json!({ "failed": 2, "built": 3 }));
    }
}
