//! What a derivation forbids its outputs to refer to, and how large they may be.

use std::collections::{BTreeMap, BTreeSet};

use firn_core::{InputMapping, Object};
use firn_nix::StorePath;
use firn_nix::derivation::{DerivationOptions, OutputChecks, OutputReference};

/// Applies every check to every output.
///
/// # Errors
/// The first violation, for the client, naming the output and the paths.
pub(crate) fn check_outputs(
    options: &DerivationOptions,
    outputs: &BTreeMap<String, Object>,
    inputs: &InputMapping,
) -> Result<(), String> {
    let known = inputs
        .objects()
        .chain(outputs.values())
        .map(|object| (&object.path, object))
        .collect();
    let check = Check { outputs, known };
    outputs
        .iter()
        .try_for_each(|(name, object)| match &options.structured {
            None => check.apply(object, &options.checks),
            Some(_) => options
                .output_checks
                .get(name)
                .map_or(Ok(()), |checks| check.apply(object, checks)),
        })
}

struct Check<'a> {
    outputs: &'a BTreeMap<String, Object>,
    known: BTreeMap<&'a StorePath, &'a Object>,
}

impl Check<'_> {
    fn apply(&self, object: &Object, checks: &OutputChecks) -> Result<(), String> {
        let Object { path, nar_size, .. } = object;
        if let Some(limit) = checks.max_size.filter(|limit| nar_size > limit) {
            return Err(format!(
                "path '{path}' is too large at {nar_size} bytes; limit is {limit} bytes"
            ));
        }
        let mut requisites = self.closure(path);
        let size: u64 = requisites
            .iter()
            .filter_map(|path| self.known.get(path))
            .map(|o| o.nar_size)
            .sum();
        if let Some(limit) = checks.max_closure_size.filter(|limit| size > *limit) {
            return Err(format!(
                "closure of path '{path}' is too large at {size} bytes; limit is {limit} bytes"
            ));
        }
        if checks.ignore_self_references {
            requisites.remove(path);
        }
        let references: BTreeSet<&StorePath> = object.references.iter().collect();
        for (list, used, allowed) in [
            (checks.allowed_references.as_ref(), &references, true),
            (checks.allowed_requisites.as_ref(), &requisites, true),
            (Some(&checks.disallowed_references), &references, false),
            (Some(&checks.disallowed_requisites), &requisites, false),
        ] {
            let Some(list) = list else { continue };
            let listed: BTreeSet<&StorePath> =
                list.iter().filter_map(|reference| self.path(reference)).collect();
            let bad: Vec<_> = used
                .iter()
                .filter(|path| listed.contains(*path) != allowed)
                .collect();
            if !bad.is_empty() {
                let bad: String = bad.iter().map(|path| format!("\n  {path}")).collect();
                return Err(format!(
                    "output '{path}' is not allowed to refer to the following paths:{bad}"
                ));
            }
        }
        Ok(())
    }

    /// That every named output exists was checked before the run.
    fn path<'b>(&'b self, reference: &'b OutputReference) -> Option<&'b StorePath> {
        match reference {
            OutputReference::Path(path) => Some(path),
            OutputReference::Output(name) => self.outputs.get(name).map(|object| &object.path),
        }
    }

    /// Everything that is reachable, the path itself included.
    fn closure<'b>(&'b self, path: &'b StorePath) -> BTreeSet<&'b StorePath> {
        let mut seen = BTreeSet::from([path]);
        let mut open = vec![path];
        while let Some(path) = open.pop() {
            let references = self
                .known
                .get(path)
                .into_iter()
                .flat_map(|object| &object.references);
            open.extend(references.filter(|reference| seen.insert(*reference)));
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use firn_nix::{BasicDerivation, NarHash};

    use super::*;

    fn path(name: &str) -> StorePath {
        let digit = name.chars().next().unwrap_or('0');
        StorePath::from_base_name(format!("{}-{name}", digit.to_string().repeat(32)).as_bytes()).unwrap()
    }

    fn object(name: &str, references: &[&str]) -> Object {
        Object {
            path: path(name),
            content: NarHash::new([0; 32]),
            nar_size: 100,
            references: references.iter().map(|name| path(name)).collect(),
            ca: None,
            self_references: None,
        }
    }

    /// Outputs `out` (which refers to itself, `a` and `dev`) and `dev`, after the inputs `a` → `b`.
    fn verdict(name: &str, value: &str) -> Result<(), String> {
        let mut drv = BasicDerivation::default();
        drv.env.insert(name.into(), value.into());
        let options = DerivationOptions::of(&drv).unwrap();
        let outputs = [
            ("out", object("xout", &["xout", "a", "dev"])),
            ("dev", object("dev", &[])),
        ];
        let outputs = outputs.map(|(name, object)| (name.to_owned(), object)).into();
        check_outputs(
            &options,
            &outputs,
            &InputMapping::new([object("a", &["b"]), object("b", &[])]),
        )
    }

    #[test]
    fn lists_of_references() {
        let [a, b] = ["a", "b"].map(|name| path(name).to_string());
        for (name, value, bad) in [
            ("allowedReferences", format!("out dev {a}"), vec![]),
            ("allowedReferences", format!("dev {a}"), vec!["xout"]),
            ("allowedReferences", String::new(), vec!["a", "dev", "xout"]),
            ("allowedRequisites", format!("dev {a} {b}"), vec![]),
            ("allowedRequisites", format!("dev {a}"), vec!["b"]),
            ("disallowedReferences", b.clone(), vec![]),
            ("disallowedReferences", format!("{a} {b} out"), vec!["a", "xout"]),
            ("disallowedRequisites", b.clone(), vec!["b"]),
            ("disallowedRequisites", "out".to_owned(), vec![]),
        ] {
            let listed: String = bad.iter().map(|name| format!("\n  {}", path(name))).collect();
            let expected = format!(
                "output '{}' is not allowed to refer to the following paths:{listed}",
                path("xout")
            );
            let expected = if bad.is_empty() { Ok(()) } else { Err(expected) };
            assert_eq!(verdict(name, &value), expected, "{name} = {value}");
        }
    }

    #[test]
    fn sizes() {
        let checks = |text: &str| verdict("__json", &format!(r#"{{"outputChecks":{{"out":{{{text}}}}}}}"#));
        assert_eq!(checks(r#""maxSize":100,"maxClosureSize":400"#), Ok(()));
        assert!(
            checks(r#""maxSize":99"#)
                .unwrap_err()
                .contains("is too large at 100 bytes; limit is 99 bytes")
        );
        assert!(
            checks(r#""maxClosureSize":399"#)
                .unwrap_err()
                .contains("is too large at 400 bytes")
        );
    }

    #[test]
    fn structured_checks_count_the_output_itself() {
        let verdict = verdict(
            "__json",
            r#"{"outputChecks":{"out":{"disallowedRequisites":["out"]}}}"#,
        );
        assert!(verdict.unwrap_err().ends_with("-xout"));
    }
}
