//! `explain`: why a path is valid, why a build was run, and how two contents differ.

use clap::Args;
use firn_core::Step;
use firn_service::ports::Ports;
use firn_service::{
    BuildExplanation, Cause, Compared, Comparison, Desk, DifferingInput, Explanation, Origin, StoreError,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Reply;
use super::reply::{difference, moment_text};

/// Missing references, and differing inputs, that are named to a person.
const MAX_NAMED: usize = 10;

/// `explain`
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
#[command(after_help = "\
Of a store path: what the account has for it, why, and what else there is. Of a derivation that the account asked for (by its path, or by \
the name of the package), or of a build's number (as in `builds`): how the request was answered, which inputs differ from those of the nearest earlier run of the same \
derivation, who brought them, and where the differences begin.

With --diff: how two contents of a store path differ, file by file: the one that the account has, and OTHER (sha256:…, the beginning of \
its digits, or another store path), or the next best.")]
pub struct Explain {
    /// /nix/store/…, /nix/store/….drv, a package's name or a build's number
    path: String,
    /// How two contents of the path differ
    #[arg(long)]
    diff: bool,
    /// With which content to compare
    #[arg(requires = "diff")]
    other: Option<String>,
    /// Places that are told, at most
    #[arg(long, default_value_t = 100, value_name = "N", requires = "diff")]
    limit: usize,
}

impl Explain {
    pub(super) async fn run<P: Ports>(self, desk: &Desk<P>) -> Result<Reply, StoreError> {
        if self.diff {
            let compared = desk
                .compare_contents(&self.path, self.other.as_deref(), self.limit)
                .await?;
            return Ok(Reply::told(diff_value(&compared), &diff_text(&compared)));
        }
        let is_path = self.path.starts_with('/');
        if !is_path || self.path.ends_with(".drv") {
            if let Some(explanation) = desk.explain_build(&self.path).await? {
                return Ok(Reply::told(build_value(&explanation), &build_text(&explanation)));
            }
            if !is_path {
                return Err(StoreError::new(format!(
                    "no build of '{}' was asked for by this account (`builds` lists what was)",
                    self.path.chars().take(300).collect::<String>().escape_debug()
                )));
            }
        }
        let explanation = desk.explain(&self.path).await?;
        Ok(Reply::told(value(&explanation), &text(&explanation)))
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
        "caches": explanation.caches,
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
    lines.extend(explanation.caches.iter().cloned());
    lines.join("\n")
}

fn origin_value(origin: &Origin) -> Value {
    json!({
        "content": origin.content.map(|content| content.to_string()),
        "brought": origin.to_string(),
    })
}

fn input_value(input: &DifferingInput) -> Value {
    json!({
        "path": input.path.to_string(),
        "now": input.now.as_ref().map(origin_value),
        "before": input.before.as_ref().map(origin_value),
    })
}

fn cause_value(cause: &Cause) -> Value {
    let through: Vec<String> = cause.through.iter().map(ToString::to_string).collect();
    json!({
        "path": cause.path.to_string(),
        "cause": match cause.step {
            Step::Brought { .. } => "brought",
            Step::Irreproducible => "not-reproducible",
            Step::Inputs(..) => "other-inputs",
            Step::Environment => "other-environment",
            Step::Derivation => "other-derivation",
        },
        "explanation": cause_text(cause),
        "now": origin_value(&cause.now),
        "before": origin_value(&cause.before),
        "through": through,
    })
}

fn build_value(explanation: &BuildExplanation) -> Value {
    let request = &explanation.request;
    let compared = explanation.compared.as_ref().map(|compared| {
        json!({
            "build": compared.with.map(|build| build.to_string()),
            "started": compared.started,
            "succeeded": compared.succeeded,
            "same_build": compared.same,
            "inputs": compared.inputs.iter().map(input_value).collect::<Vec<_>>(),
            "more_inputs": compared.more_inputs,
            "inputs_of_other_accounts": compared.inputs_of_others,
            "causes": compared.causes.iter().map(cause_value).collect::<Vec<_>>(),
            "complete": compared.complete,
        })
    });
    json!({
        "derivation": request.drv_path.to_string(),
        "rung": request.rung.map(firn_core::Rung::name),
        "reason": request.reason.as_str(),
        "time": request.time,
        "build": explanation.build.map(|build| build.to_string()),
        "apart": explanation.apart.as_ref().map(|mark| json!({ "why": mark.why, "since": mark.time })),
        "compared": compared,
    })
}

fn build_text(explanation: &BuildExplanation) -> String {
    let request = &explanation.request;
    let rung = request.rung.map_or("failed", firn_core::Rung::name);
    let mut lines = vec![
        request.drv_path.to_string(),
        format!("{}  {rung}: {}", moment_text(request.time), request.reason),
    ];
    if let Some(build) = explanation.build {
        lines.push(format!("build {build}"));
    }
    if request.rung == Some(firn_core::Rung::Grounded) {
        lines.push(
            "It was believed without comparing inputs: its whole graph of derivations was checked, and nothing below it was merely uploaded."
                .into(),
        );
    }
    if let Some(mark) = &explanation.apart {
        lines.push(format!(
            "What this account runs of it is for this account alone: a run of it {} ({}). This ends when another account has built it.",
            mark.why,
            moment_text(mark.time)
        ));
    }
    match &explanation.compared {
        Some(compared) => comparison_text(compared, &mut lines),
        None if explanation.build.is_none() => lines.push("Nothing was run for it.".into()),
        None => lines.push("There is no earlier run of this derivation that you may know of.".into()),
    }
    lines.join("\n")
}

fn comparison_text(compared: &Comparison, lines: &mut Vec<String>) {
    lines.push(String::new());
    let whose = match compared.with {
        Some(build) => format!("build {build}"),
        None => "a build for another account".into(),
    };
    let ended = if compared.succeeded { "" } else { ", which failed" };
    lines.push(format!(
        "The nearest earlier run of the derivation: {whose}, {}{ended}.",
        moment_text(compared.started)
    ));
    if compared.same {
        lines.push("It was the same build: the same derivation and the same inputs.".into());
    } else if compared.inputs.is_empty() && compared.inputs_of_others == 0 {
        lines.push(
            "Its inputs were the same; the sandbox was not (another version of Firn, or other settings), or the client's Nix computes other \
             content addresses."
                .into(),
        );
    } else {
        lines.push("Inputs that differ:".into());
    }
    for input in compared.inputs.iter().take(MAX_NAMED) {
        lines.push(format!("  {}", input.path));
        lines.push(format!("    now:    {}", side(input.now.as_ref())));
        lines.push(format!("    before: {}", side(input.before.as_ref())));
    }
    let more = compared.more_inputs + compared.inputs.len().saturating_sub(MAX_NAMED);
    if more > 0 {
        lines.push(format!("  and {more} more"));
    }
    if compared.inputs_of_others > 0 {
        lines.push(format!(
            "  and {} that only the other account had",
            compared.inputs_of_others
        ));
    }
    if !compared.causes.is_empty() {
        lines.push(String::new());
        lines.push("It begins with:".into());
    }
    for cause in &compared.causes {
        lines.push(format!("  {}", cause_text(cause)));
        if cause.through.len() > 1 {
            let names: Vec<&str> = cause.through.iter().rev().map(|path| path.name()).collect();
            lines.push(format!("    by way of {}", names.join(" → ")));
        }
    }
    if !compared.complete {
        lines.push("There are more differences than were followed.".into());
    }
}

fn side(origin: Option<&Origin>) -> String {
    match origin {
        None => "not an input".into(),
        Some(origin) => match origin.content {
            Some(content) => format!("{content}, {origin}"),
            None => origin.to_string(),
        },
    }
}

fn cause_text(cause: &Cause) -> String {
    let path = &cause.path;
    match cause.step {
        Step::Irreproducible => format!("{path} does not build reproducibly"),
        Step::Brought { first: true, second } => {
            let both = if second {
                ", and neither was the other one"
            } else {
                ""
            };
            format!(
                "the one upload to fix: {path} was not built here ({}){both}",
                cause.now
            )
        }
        Step::Brought { .. } => format!(
            "the one upload to fix: {path} was built for you now; before, it was not built here ({})",
            cause.before
        ),
        Step::Inputs(..) => format!("{path} was built from other inputs, which are another account's"),
        Step::Environment => format!("{path} was built in another kind of sandbox"),
        Step::Derivation => format!("{path} was built by another derivation"),
    }
}

fn diff_value(compared: &Compared) -> Value {
    let contents: Vec<String> = compared.contents.iter().map(ToString::to_string).collect();
    json!({
        "path": compared.path.to_string(),
        "first": compared.first.to_string(),
        "second": compared.second.to_string(),
        "differences": compared.differences.iter().map(difference).collect::<Vec<_>>(),
        "more": compared.more,
        "contents": contents,
    })
}

fn diff_text(compared: &Compared) -> String {
    let mut lines = vec![
        compared.path.to_string(),
        format!("first:  {}", compared.first),
        format!("second: {}", compared.second),
    ];
    let places = compared.differences.iter();
    lines.extend(places.map(|place| format!("  {}", firn_service::shown_difference(place))));
    match (compared.differences.is_empty(), compared.more) {
        (true, false) => lines.push("They are the same.".into()),
        (_, true) => lines.push("  and more (--limit N)".into()),
        _ => {}
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use firn_core::{BuildId, Rung};
    use firn_nix::{NarHash, StorePath};
    use firn_service::ports::RequestRecord;
    use firn_service::{Brought, ExplainedCandidate};

    fn path(name: &str) -> StorePath {
        StorePath::parse(format!("/nix/store/{}-{name}", "0".repeat(32)).as_bytes()).unwrap()
    }

    #[test]
    fn explanations_name_what_is_missing() {
        let mut explanation = Explanation {
            path: path("x"),
            valid: false,
            candidates: Vec::new(),
            caches: Vec::new(),
        };
        assert!(text(&explanation).ends_with("nothing that you believe says what it is."));
        explanation.caches = vec!["the cache 'https://c' has it unsigned".into()];
        assert!(text(&explanation).ends_with("says what it is.\nthe cache 'https://c' has it unsigned"));
        explanation.caches.clear();
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

    #[test]
    fn a_build_is_explained_from_its_inputs_to_the_first_difference() {
        let origin = |brought, content| Origin {
            content,
            brought,
            cache: None,
        };
        let mine = || origin(Brought::Uploaded, Some(NarHash::new([1; 32])));
        let theirs = || origin(Brought::AnotherAccount, None);
        let mut explanation = BuildExplanation {
            request: RequestRecord {
                account: firn_core::AccountId(1),
                drv_path: path("top.drv"),
                rung: Some(Rung::Built),
                reason: "built top in 0.1 s".into(),
                build: Some(BuildId([2; 16])),
                time: 0,
                wall_ms: 1,
            },
            build: Some(BuildId([2; 16])),
            apart: None,
            compared: None,
        };
        assert!(build_text(&explanation).contains("no earlier run"));
        explanation.compared = Some(Comparison {
            with: None,
            started: 0,
            succeeded: true,
            same: false,
            inputs: vec![DifferingInput {
                path: path("mid"),
                now: Some(origin(Brought::Built, Some(NarHash::new([3; 32])))),
                before: Some(theirs()),
            }],
            more_inputs: 0,
            inputs_of_others: 1,
            causes: vec![Cause {
                path: path("low"),
                step: Step::Brought {
                    first: true,
                    second: false,
                },
                now: mine(),
                before: theirs(),
                through: vec![path("mid"), path("low")],
            }],
            complete: true,
        });
        let text = build_text(&explanation);
        for part in [
            "built: built top in 0.1 s",
            "a build for another account",
            "    before: another account",
            "and 1 that only the other account had",
            &format!(
                "the one upload to fix: {} was not built here (uploaded by you)",
                path("low")
            ),
            "by way of low → mid",
        ] {
            assert!(text.contains(part), "'{part}' is not in:\n{text}");
        }
        let value = build_value(&explanation);
        assert_eq!(value["compared"]["causes"][0]["path"], path("low").to_string());
        assert_eq!(value["compared"]["causes"][0]["before"]["content"], Value::Null);
    }
}
