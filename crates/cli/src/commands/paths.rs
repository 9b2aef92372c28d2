//! `explain` and `forget`: what an account has, and why.

use clap::Args;
use firn_service::ports::Ports;
use firn_service::{Desk, Explanation, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Reply;

/// Missing references that are named to a person.
const MAX_NAMED: usize = 10;

/// `explain`
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub struct Explain {
    /// /nix/store/…
    path: String,
}

impl Explain {
    pub(super) async fn run<P: Ports>(self, desk: &Desk<P>) -> Result<Reply, StoreError> {
        let explanation = desk.explain(&self.path).await?;
        Ok(Reply::told(value(&explanation), &text(&explanation)))
    }
}

/// `forget`
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
#[command(after_help = "\
What the account uploaded, fetched or had built counts for it no more. A path stays valid where other evidence admits it, \
such as a signature by a trusted key. Other accounts are not touched, but for those that had the path from this one.")]
pub struct Forget {
    /// /nix/store/…
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
}

impl Forget {
    pub(super) async fn run<P: Ports>(self, desk: &Desk<P>) -> Result<Reply, StoreError> {
        let forgotten = desk.forget(&self.paths).await?;
        let sentence = match forgotten {
            0 => "there was nothing of this account's own to forget".to_owned(),
            1 => "1 piece of evidence is forgotten".to_owned(),
            more => format!("{more} pieces of evidence are forgotten"),
        };
        Ok(Reply::done(json!({ "forgotten": forgotten }), &sentence))
    }
}

fn value(explanation: &Explanation) -> Value {
    let candidates: Vec<Value> = explanation
        .candidates
        .iter()
        .map(|candidate| {
            let missing: Vec<String> = candidate.missing.iter().map(ToString::to_string).collect();
            json!({
                "content": candidate.content,
                "nar_size": candidate.nar_size,
                "why": candidate.why,
                "chosen": candidate.chosen,
                "missing": missing,
            })
        })
        .collect();
    json!({
        "path": explanation.path.to_string(),
        "valid": explanation.valid,
        "candidates": candidates,
    })
}

fn text(explanation: &Explanation) -> String {
    let path = &explanation.path;
    let mut lines = vec![match (explanation.valid, explanation.candidates.is_empty()) {
        (true, _) => format!("{path} is valid for you."),
        (false, true) => format!("{path} is not valid for you: nothing that you believe says what it is."),
        (false, false) => format!("{path} is not valid for you: what is known of it lacks references."),
    }];
    for candidate in &explanation.candidates {
        let mark = if candidate.chosen { "chosen" } else { "  also" };
        lines.push(format!(
            "{mark}: {}, {} bytes",
            candidate.content, candidate.nar_size
        ));
        lines.push(format!("        {}", candidate.why));
        for missing in candidate.missing.iter().take(MAX_NAMED) {
            lines.push(format!(
                "        it refers to {missing}, which is not valid for you"
            ));
        }
        let more = candidate.missing.len().saturating_sub(MAX_NAMED);
        if more > 0 {
            lines.push(format!("        and to {more} more"));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use firn_nix::StorePath;
    use firn_service::ExplainedCandidate;

    #[test]
    fn explanations_name_what_is_missing() {
        let path = |name: &str| {
            StorePath::parse(format!("/nix/store/{}-{name}", "0".repeat(32)).as_bytes()).unwrap()
        };
        let mut explanation = Explanation {
            path: path("x"),
            valid: false,
            candidates: Vec::new(),
        };
        assert!(text(&explanation).ends_with("nothing that you believe says what it is."));
        explanation.candidates.push(ExplainedCandidate {
            content: "sha256:abc".into(),
            nar_size: 7,
            why: "uploaded by you".into(),
            chosen: false,
            missing: (0..12).map(|n| path(&format!("dep-{n}"))).collect(),
        });
        let text = text(&explanation);
        assert!(
            text.contains("lacks references") && text.ends_with("and to 2 more"),
            "{text}"
        );
        assert_eq!(text.matches("it refers to").count(), MAX_NAMED);
        assert_eq!(value(&explanation)["candidates"][0]["nar_size"], 7);
    }
}
