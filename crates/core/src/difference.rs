//! Why two builds of one derivation are not the same: how their inputs differ, and where a differing content comes from.
//!
//! One step at a time: the caller looks up which runs made the two contents of a path, asks [`step`], and goes on with the inputs that
//! it is told of, until nothing but causes is left.

use std::collections::{BTreeMap, BTreeSet};

use firn_nix::StorePath;

use crate::{BuildKey, ObjectId};

/// A run, as far as comparing needs it.
#[derive(Clone, Copy, Debug)]
pub struct Made<'r> {
    /// What was asked.
    pub key: BuildKey,
    /// The derivation without its inputs: see [`crate::derivation_digest`].
    pub drv: [u8; 32],
    /// The whole input closure.
    pub inputs: &'r BTreeSet<ObjectId>,
}

impl Made<'_> {
    /// How many inputs one of them has and the other has not.
    #[must_use]
    pub fn distance(&self, other: &Self) -> usize {
        self.inputs.symmetric_difference(other.inputs).count()
    }
}

/// Which of these runs is the nearest: of the same derivation, with the fewest inputs that differ; the first of equals.
#[must_use]
pub fn nearest(of: &Made<'_>, among: &[Made<'_>]) -> Option<usize> {
    let same = among.iter().enumerate().filter(|(_, made)| made.drv == of.drv);
    same.min_by_key(|(_, made)| made.distance(of)).map(|(at, _)| at)
}

/// One path of which two input closures have different objects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Differing {
    /// The path.
    pub path: StorePath,
    /// What the first has, if anything.
    pub first: Option<ObjectId>,
    /// What the second has, if anything.
    pub second: Option<ObjectId>,
}

impl Differing {
    /// Both, where both have something.
    #[must_use]
    pub fn both(&self) -> Option<(ObjectId, ObjectId)> {
        Some((self.first?, self.second?))
    }
}

/// How two input closures differ, by path. `paths` knows the path of each object that only one of them has.
#[must_use]
pub fn differing(
    first: &BTreeSet<ObjectId>,
    second: &BTreeSet<ObjectId>,
    paths: &BTreeMap<ObjectId, StorePath>,
) -> Vec<Differing> {
    let mut by_path: BTreeMap<&StorePath, (Option<ObjectId>, Option<ObjectId>)> = BTreeMap::new();
    for id in first.difference(second) {
        if let Some(path) = paths.get(id) {
            by_path.entry(path).or_default().0 = Some(*id);
        }
    }
    for id in second.difference(first) {
        if let Some(path) = paths.get(id) {
            by_path.entry(path).or_default().1 = Some(*id);
        }
    }
    by_path
        .into_iter()
        .map(|(path, (first, second))| Differing {
            path: path.clone(),
            first,
            second,
        })
        .collect()
}

/// Where the difference between two contents of one path comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Nobody built the first, or the second, or either: it was brought.
    Brought {
        /// The first was.
        first: bool,
        /// The second was.
        second: bool,
    },
    /// Equal builds gave both: the derivation does not build reproducibly.
    Irreproducible,
    /// Builds of one derivation with other inputs, of which the difference comes: the runs' places in their lists.
    Inputs(usize, usize),
    /// Builds of one derivation with the same inputs, in sandboxes that are not of one class.
    Environment,
    /// Builds of different derivations.
    Derivation,
}

/// One step up the graph, from all runs that are known to have made the first and the second content of a path. Of several runs
/// those count that are nearest to each other.
#[must_use]
pub fn step(first: &[Made<'_>], second: &[Made<'_>]) -> Step {
    if first.is_empty() || second.is_empty() {
        return Step::Brought {
            first: first.is_empty(),
            second: second.is_empty(),
        };
    }
    let pairs = || {
        let all = first.iter().enumerate();
        all.flat_map(|(a, one)| {
            second
                .iter()
                .enumerate()
                .map(move |(b, other)| (a, one, b, other))
        })
    };
    if pairs().any(|(_, one, _, other)| one.key == other.key) {
        return Step::Irreproducible;
    }
    let alike = pairs().filter(|(_, one, _, other)| one.drv == other.drv);
    let nearest = alike.map(|(a, one, b, other)| (one.distance(other), a, b)).min();
    match nearest {
        None => Step::Derivation,
        Some((0, ..)) => Step::Environment,
        Some((_, a, b)) => Step::Inputs(a, b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[i64]) -> BTreeSet<ObjectId> {
        ids.iter().copied().map(ObjectId).collect()
    }

    fn made(key: u8, drv: u8, inputs: &BTreeSet<ObjectId>) -> Made<'_> {
        Made {
            key: BuildKey([key; 32]),
            drv: [drv; 32],
            inputs,
        }
    }

    fn path(name: &str) -> StorePath {
        StorePath::parse(format!("/nix/store/{}-{name}", "0".repeat(32)).as_bytes()).unwrap()
    }

    #[test]
    fn each_cause_has_its_name() {
        let (a, b) = (set(&[1, 2]), set(&[1, 3]));
        let brought = |first, second| Step::Brought { first, second };
        assert_eq!(step(&[], &[]), brought(true, true));
        assert_eq!(step(&[made(1, 1, &a)], &[]), brought(false, true));
        assert_eq!(step(&[], &[made(1, 1, &a)]), brought(true, false));
        assert_eq!(step(&[made(1, 1, &a)], &[made(1, 1, &a)]), Step::Irreproducible);
        assert_eq!(step(&[made(1, 1, &a)], &[made(2, 1, &b)]), Step::Inputs(0, 0));
        assert_eq!(step(&[made(1, 1, &a)], &[made(2, 1, &a)]), Step::Environment);
        assert_eq!(step(&[made(1, 1, &a)], &[made(2, 2, &a)]), Step::Derivation);
        // An equal build says more than any other pair of runs.
        let other = made(9, 2, &b);
        assert_eq!(
            step(&[other, made(1, 1, &a)], &[made(2, 1, &b), made(1, 1, &a)]),
            Step::Irreproducible
        );
    }

    #[test]
    fn the_nearest_runs_are_compared() {
        let (a, near, far) = (set(&[1, 2, 3]), set(&[1, 2, 4]), set(&[7, 8, 9]));
        let runs = [
            made(2, 1, &far),
            made(3, 1, &near),
            made(4, 1, &near),
            made(5, 2, &a),
        ];
        assert_eq!(nearest(&made(1, 1, &a), &runs), Some(1));
        assert_eq!(nearest(&made(1, 3, &a), &runs), None);
        assert_eq!(step(&[made(1, 1, &a)], &runs), Step::Inputs(0, 1));
    }

    #[test]
    fn inputs_are_paired_by_path() {
        let (x, y, z) = (path("x"), path("y"), path("z"));
        let paths = [(2, &x), (3, &x), (4, &y), (5, &z)];
        let paths = paths.map(|(id, path)| (ObjectId(id), path.clone())).into();
        let found = differing(&set(&[1, 2, 4]), &set(&[1, 3, 5]), &paths);
        let expected = [(&x, Some(2), Some(3)), (&y, Some(4), None), (&z, None, Some(5))];
        let expected = expected.map(|(path, first, second)| Differing {
            path: path.clone(),
            first: first.map(ObjectId),
            second: second.map(ObjectId),
        });
        assert_eq!(found, expected);
        assert_eq!(found[0].both(), Some((ObjectId(2), ObjectId(3))));
        assert_eq!(found[1].both(), None);
    }
}
