//! Outputs that refer to each other in a circle cannot be registered one after the other.

use std::collections::{BTreeMap, BTreeSet};

/// Two outputs on a circle of references, the second of which refers to the first.
pub(crate) type Circle<'a> = (&'a str, &'a str);

/// The outputs in an order in which each comes behind those that it refers to. It may refer to itself.
pub(crate) fn sorted<'a>(
    references: &BTreeMap<&'a str, BTreeSet<&'a str>>,
) -> Result<Vec<&'a str>, Circle<'a>> {
    let (mut done, mut order) = (BTreeSet::new(), Vec::new());
    for start in references.keys() {
        if !done.contains(start) {
            from(start, references, &mut done, &mut order)?;
        }
    }
    Ok(order)
}

/// Depth first, with the way from `start` to here on an explicit stack.
fn from<'a>(
    start: &'a str,
    references: &BTreeMap<&'a str, BTreeSet<&'a str>>,
    done: &mut BTreeSet<&'a str>,
    order: &mut Vec<&'a str>,
) -> Result<(), Circle<'a>> {
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
            Some(to) if way.iter().any(|(on_way, _)| *on_way == to) => return Err((to, at)),
            Some(to) => way.push((to, next(to))),
            None => {
                done.insert(at);
                order.push(at);
                way.pop();
            }
        }
    }
    Ok(())
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
    fn what_is_referred_to_comes_first() {
        let edges = graph(&[
            ("dev", &["out", "lib"]),
            ("lib", &["lib"]),
            ("man", &[]),
            ("out", &["out", "lib"]),
        ]);
        assert_eq!(sorted(&edges), Ok(vec!["lib", "out", "dev", "man"]));
    }

    #[test]
    fn circles_are_found() {
        assert_eq!(
            sorted(&graph(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])])),
            Err(("b", "c"))
        );
        assert_eq!(
            sorted(&graph(&[("dev", &["out"]), ("out", &["dev"])])),
            Err(("dev", "out"))
        );
    }
}
