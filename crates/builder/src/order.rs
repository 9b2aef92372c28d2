//! Outputs that refer to each other in a circle cannot be registered one after the other.

use std::collections::{BTreeMap, BTreeSet};

/// Two outputs on a circle of references, the second of which refers to the first; none when there is no circle. An output may refer
/// to itself.
pub(crate) fn cycle<'a>(references: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Option<(&'a str, &'a str)> {
    let mut done = BTreeSet::new();
    references
        .keys()
        .find_map(|start| from(start, references, &mut done))
}

/// Depth first, with the way from `start` to here on an explicit stack.
fn from<'a>(
    start: &'a str,
    references: &BTreeMap<&'a str, BTreeSet<&'a str>>,
    done: &mut BTreeSet<&'a str>,
) -> Option<(&'a str, &'a str)> {
    let next = |of: &'a str| {
        references
            .get(of)
            .cloned()
            .unwrap_or_default()
            .into_iter()
            .filter(move |to| *to != of)
    };
    let mut way = vec![(start, next(start))];
    while let Some((at, rest)) = way.last_mut() {
        let at = *at;
        match rest.next() {
            Some(to) if done.contains(to) => {}
            Some(to) if way.iter().any(|(on_way, _)| *on_way == to) => return Some((to, at)),
            Some(to) => way.push((to, next(to))),
            None => {
                done.insert(at);
                way.pop();
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&'static str, &[&'static str])]) -> BTreeMap<&'static str, BTreeSet<&'static str>> {
        edges
            .iter()
            .map(|(from, to)| (*from, to.iter().copied().collect()))
            .collect()
    }

    #[test]
    fn circles_are_found_and_nothing_else() {
        assert_eq!(
            cycle(&graph(&[
                ("out", &["out", "lib"]),
                ("lib", &["lib"]),
                ("dev", &["out", "lib"])
            ])),
            None
        );
        assert_eq!(
            cycle(&graph(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])])),
            Some(("b", "c"))
        );
        assert_eq!(
            cycle(&graph(&[("dev", &["out"]), ("out", &["dev"])])),
            Some(("dev", "out"))
        );
    }
}
