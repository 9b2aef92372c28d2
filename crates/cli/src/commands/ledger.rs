//! `reproducibility`: what is known to build otherwise each time.

use firn_service::ports::Ports;
use firn_service::{Desk, Irreproducible, OtherBytes, Reproducibility, StoreError, shown_difference};
use serde_json::{Value, json};

use super::Reply;
use super::reply::{difference, moment_text};

pub(super) async fn reproducibility<P: Ports>(desk: &Desk<P>) -> Result<Reply, StoreError> {
    let ledger = desk.reproducibility().await?;
    Ok(Reply::told(value(&ledger), &text(&ledger)))
}

fn value(ledger: &Reproducibility) -> Value {
    let builds: Vec<Value> = ledger.builds.iter().map(build_value).collect();
    let caches: Vec<Value> = ledger.caches.iter().map(cache_value).collect();
    json!({ "builds": builds, "caches": caches })
}

fn build_value(row: &Irreproducible) -> Value {
    let contents: Vec<Value> = row
        .contents
        .iter()
        .map(|seen| {
            json!({
                "content": seen.content.to_string(),
                "runs": seen.runs,
                "first": seen.first,
                "last": seen.last,
            })
        })
        .collect();
    json!({
        "build_key": row.key.to_string(),
        "derivation": row.drv_path.as_ref().map(ToString::to_string),
        "output": row.output,
        "path": row.path.to_string(),
        "contents": contents,
        "differences": row.differences.iter().map(difference).collect::<Vec<_>>(),
        "more": row.more,
    })
}

fn cache_value(row: &OtherBytes) -> Value {
    json!({
        "path": row.path.to_string(),
        "built": row.built.to_string(),
        "cached": row.cached.to_string(),
        "key": row.key,
        "cache": row.cache,
        "differences": row.differences.iter().map(difference).collect::<Vec<_>>(),
        "more": row.more,
    })
}

fn text(ledger: &Reproducibility) -> String {
    let mut lines = Vec::new();
    for row in &ledger.builds {
        let drv_path = row
            .drv_path
            .as_ref()
            .map_or_else(String::new, |drv| format!(" of {drv}"));
        lines.push(format!("{} does not build reproducibly", row.path));
        lines.push(format!("  output '{}'{drv_path}", row.output));
        for seen in &row.contents {
            let times = if seen.runs == 1 { "run" } else { "runs" };
            lines.push(format!(
                "  {}: {} {times}, the last {}",
                seen.content,
                seen.runs,
                moment_text(seen.last)
            ));
        }
        places(&row.differences, row.more, &mut lines);
    }
    for row in &ledger.caches {
        let by = match (&row.cache, &row.key) {
            (Some(cache), Some(key)) => format!("{cache}, signed by the key '{key}'"),
            (Some(cache), None) => cache.clone(),
            (None, Some(key)) => format!("signed by the key '{key}'"),
            (None, None) => "a cache".into(),
        };
        lines.push(format!("{}: the cache has other bytes than Firn built", row.path));
        lines.push(format!("  {} built here", row.built));
        lines.push(format!("  {} from the cache: {by}", row.cached));
        places(&row.differences, row.more, &mut lines);
    }
    if lines.is_empty() {
        return "Every build that you asked for and that was run more than once gave the same bytes.".into();
    }
    lines.join("\n")
}

fn places(differences: &[firn_content::Difference], more: bool, lines: &mut Vec<String>) {
    lines.extend(
        differences
            .iter()
            .map(|place| format!("    {}", shown_difference(place))),
    );
    if more {
        lines.push("    and more: explain --diff PATH has all".into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firn_content::{Change, Difference};
    use firn_core::BuildKey;
    use firn_nix::{NarHash, StorePath};
    use firn_service::Outcome;

    #[test]
    fn builds_and_caches_are_told() {
        assert!(text(&Reproducibility::default()).starts_with("Every build"));
        let path = |name: &str| {
            StorePath::parse(format!("/nix/store/{}-{name}", "0".repeat(32)).as_bytes()).unwrap()
        };
        let seen = |byte, runs| Outcome {
            content: NarHash::new([byte; 32]),
            runs,
            first: 0,
            last: 1,
        };
        let differences = vec![Difference {
            path: b"bin/x".to_vec(),
            change: Change::Bytes { offset: 7 },
        }];
        let ledger = Reproducibility {
            builds: vec![Irreproducible {
                key: BuildKey([0; 32]),
                drv_path: Some(path("x.drv")),
                output: "out".into(),
                path: path("x"),
                contents: vec![seen(1, 2), seen(2, 1)],
                differences: differences.clone(),
                more: true,
            }],
            caches: vec![OtherBytes {
                path: path("y"),
                built: NarHash::new([1; 32]),
                cached: NarHash::new([2; 32]),
                key: Some("k".into()),
                cache: None,
                differences,
                more: false,
            }],
        };
        let text = text(&ledger);
        for part in [
            "2 runs",
            "1 run,",
            "bin/x (differs from byte 7 on)",
            "signed by the key 'k'",
        ] {
            assert!(text.contains(part), "'{part}' is not in:\n{text}");
        }
        assert_eq!(
            value(&ledger)["builds"][0]["differences"][0]["first_difference"],
            7
        );
    }
}
