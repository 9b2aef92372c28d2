//! Build keys: equal exactly when a sandbox could not tell two builds apart.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};

use firn_core::{BuildKey, EnvironmentClass, InputMapping, Object};
use firn_nix::rewrite::SelfReferences;
use firn_nix::{
    BasicDerivation, CaMethod, ContentAddress, DerivationOutput, Hash, HashAlgo, NarHash, StorePath,
};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

const NAME: &str = "name";

/// Everything that a key is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Build {
    drv: BasicDerivation,
    inputs: BTreeMap<StorePath, Object>,
    class: EnvironmentClass,
}

impl Build {
    fn key(&self) -> BuildKey {
        let inputs = InputMapping::new(self.inputs.values().cloned());
        BuildKey::new(NAME, &self.drv, &inputs, &self.class)
    }

    fn with<T>(&self, change: impl FnOnce(&mut Self) -> T) -> Self {
        let mut changed = self.clone();
        change(&mut changed);
        changed
    }

    /// Every build that differs from this one in a single place; some may be equal to it or to each other.
    fn changes(&self) -> Vec<Self> {
        let mut all = Vec::new();
        self.changed_outputs(&mut all);
        self.changed_strings(&mut all);
        self.changed_inputs(&mut all);
        self.changed_class(&mut all);
        all
    }

    fn changed_outputs(&self, all: &mut Vec<Self>) {
        for (name, output) in &self.drv.outputs {
            all.push(self.with(|b| b.drv.outputs.remove(name)));
            all.push(self.with(|b| {
                let output = b.drv.outputs.remove(name).unwrap();
                b.drv.outputs.insert(format!("{name}x"), output);
            }));
            for other in output_changes(output) {
                all.push(self.with(|b| b.drv.outputs.insert(name.clone(), other)));
            }
        }
        all.push(self.with(|b| b.drv.outputs.insert("more".into(), DerivationOutput::Deferred)));
    }

    fn changed_strings(&self, all: &mut Vec<Self>) {
        all.extend(bytes_changes(&self.drv.platform).map(|s| self.with(|b| b.drv.platform = s)));
        all.extend(bytes_changes(&self.drv.builder).map(|s| self.with(|b| b.drv.builder = s)));
        for at in 0..self.drv.args.len() {
            all.extend(bytes_changes(&self.drv.args[at]).map(|s| self.with(|b| b.drv.args[at] = s)));
            all.push(self.with(|b| b.drv.args.remove(at)));
            all.push(self.with(|b| b.drv.args.insert(at, Vec::new())));
            if at > 0 {
                all.push(self.with(|b| b.drv.args.swap(at - 1, at)));
                all.push(self.with(|b| {
                    let joined = [b.drv.args.remove(at - 1), b.drv.args.remove(at - 1)].concat();
                    b.drv.args.insert(at - 1, joined);
                }));
                all.push(self.with(|b| move_byte(&mut b.drv.args, at)));
            }
        }
        // From one field to its neighbour in the encoding.
        all.push(self.with(|b| b.drv.args.insert(0, std::mem::take(&mut b.drv.builder))));
        all.push(self.with(|b| std::mem::swap(&mut b.drv.platform, &mut b.drv.builder)));
        for (name, value) in &self.drv.env {
            all.push(self.with(|b| b.drv.env.remove(name)));
            all.extend(bytes_changes(value).map(|s| self.with(|b| b.drv.env.insert(name.clone(), s))));
            all.extend(bytes_changes(name).map(|s| self.renamed(name, s, value.clone())));
            all.push(self.renamed(name, value.clone(), name.clone()));
            if let Some((first, rest)) = value.split_first() {
                all.push(self.renamed(name, [&name[..], &[*first]].concat(), rest.to_vec()));
            }
            if let Some((last, rest)) = name.split_last() {
                all.push(self.renamed(name, rest.to_vec(), [&[*last], &value[..]].concat()));
            }
            // A variable that becomes two arguments.
            all.push(self.with(|b| {
                b.drv.env.remove(name);
                b.drv.args.extend([name.clone(), value.clone()]);
            }));
        }
    }

    fn renamed(&self, from: &[u8], to: Vec<u8>, value: Vec<u8>) -> Self {
        self.with(|b| {
            b.drv.env.remove(from);
            b.drv.env.insert(to, value);
        })
    }

    fn changed_inputs(&self, all: &mut Vec<Self>) {
        for (at, object) in &self.inputs {
            all.push(self.with(|b| b.inputs.remove(at)));
            let mut other = |change: &dyn Fn(&mut Object)| {
                all.push(self.with(|b| {
                    let mut object = b.inputs.remove(at).unwrap();
                    change(&mut object);
                    b.inputs.insert(object.path.clone(), object);
                }));
            };
            other(&|o| o.content = content(99));
            other(&|o| o.path = path(99));
            other(&|o| o.references.extend([path(98)]));
            other(&|o| o.references = o.references.iter().skip(1).cloned().collect());
            other(&|o| o.references = o.references.iter().map(flipped).collect());
            for ca in [
                None,
                Some(ca(CaMethod::Nar, 0)),
                Some(ca(CaMethod::Flat, 0)),
                Some(ca(CaMethod::Nar, 9)),
            ] {
                other(&|o| o.ca = ca);
            }
            assert_eq!(*at, object.path);
        }
        // The contents of two inputs exchanged: what a mere list of contents would miss.
        for (a, b) in self.inputs.keys().zip(self.inputs.keys().skip(1)) {
            all.push(self.with(|build| {
                let (of_a, of_b) = (build.inputs[a].content, build.inputs[b].content);
                build.inputs.get_mut(a).unwrap().content = of_b;
                build.inputs.get_mut(b).unwrap().content = of_a;
            }));
            all.push(self.with(|build| {
                let of_a = std::mem::take(&mut build.inputs.get_mut(a).unwrap().references);
                build.inputs.get_mut(b).unwrap().references.extend(of_a);
            }));
        }
        all.push(self.with(|b| b.inputs.insert(path(97), object(97, 0, BTreeSet::new(), None))));
    }

    fn changed_class(&self, all: &mut Vec<Self>) {
        let text = |s: &str| [s, &format!("{s}x"), ""].map(str::to_owned);
        all.extend(text(&self.class.system).map(|s| self.with(|b| b.class.system = s)));
        all.extend(text(&self.class.sandbox).map(|s| self.with(|b| b.class.sandbox = s)));
        all.push(self.with(|b| std::mem::swap(&mut b.class.system, &mut b.class.sandbox)));
        for cores in [self.class.cores + 1, self.class.cores << 8] {
            all.push(self.with(|b| b.class.cores = cores));
        }
        for (file, of) in &self.class.extra {
            all.push(self.with(|b| b.class.extra.remove(file)));
            all.push(self.with(|b| b.class.extra.insert(file.clone(), content(99))));
            all.push(self.with(|b| {
                b.class.extra.remove(file);
                b.class.extra.insert(format!("{file}x"), *of);
            }));
        }
        all.push(self.with(|b| b.class.extra.insert("/bin/more".into(), content(0))));
    }
}

fn move_byte(args: &mut [Vec<u8>], at: usize) {
    if let Some(byte) = args[at - 1].pop() {
        args[at].insert(0, byte);
    }
}

fn bytes_changes(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let mut flipped = bytes.to_vec();
    flipped.iter_mut().take(1).for_each(|b| *b ^= 0x80);
    let shorter = bytes
        .split_last()
        .map(|(_, rest)| rest.to_vec())
        .unwrap_or_default();
    [
        [bytes, &[0]].concat(),
        [&[0], bytes].concat(),
        flipped,
        shorter,
        Vec::new(),
    ]
    .into_iter()
}

fn output_changes(output: &DerivationOutput) -> Vec<DerivationOutput> {
    use DerivationOutput::{Deferred, Fixed, Floating, Impure, InputAddressed};
    let mut all = vec![Deferred, InputAddressed(path(99)), InputAddressed(path(98))];
    for at in [None, Some(path(99)), Some(path(98))] {
        for (method, n) in [
            (CaMethod::Flat, 0),
            (CaMethod::Nar, 0),
            (CaMethod::Nar, 1),
            (CaMethod::Text, 0),
        ] {
            all.push(Fixed {
                path: at.clone(),
                ca: ca(method, n),
            });
        }
        // The same bytes at the front of a longer digest.
        let hash = Hash::new(HashAlgo::Sha512, &[0; 64]).unwrap();
        all.push(Fixed {
            path: at,
            ca: ContentAddress {
                method: CaMethod::Flat,
                hash,
            },
        });
    }
    for (method, algo) in [
        (CaMethod::Nar, HashAlgo::Sha256),
        (CaMethod::Flat, HashAlgo::Sha256),
        (CaMethod::Nar, HashAlgo::Sha1),
    ] {
        all.extend([Floating { method, algo }, Impure { method, algo }]);
    }
    all.push(output.clone());
    all
}

fn path(n: u8) -> StorePath {
    StorePath::new(&[n; 20], "x").unwrap()
}

/// Another path of the same length.
fn flipped(path: &StorePath) -> StorePath {
    StorePath::new(&[77; 20], path.name()).unwrap()
}

fn content(n: u8) -> NarHash {
    NarHash::new([n; 32])
}

fn ca(method: CaMethod, n: u8) -> ContentAddress {
    let hash = Hash::new(HashAlgo::Sha256, &[n; 32]).unwrap();
    ContentAddress { method, hash }
}

fn object(n: u8, of: u8, references: BTreeSet<u8>, ca: Option<ContentAddress>) -> Object {
    Object {
        path: path(n),
        content: content(of),
        nar_size: 0,
        references: references.into_iter().map(path).collect(),
        ca,
        self_references: None,
    }
}

/// Short and alike, so that concatenations meet.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(prop::sample::select(&[0, 1, b'a', b'=', 0xff][..]), 0..4)
}

fn addresses() -> impl Strategy<Value = ContentAddress> {
    let method = prop::sample::select(&[CaMethod::Text, CaMethod::Flat, CaMethod::Nar][..]);
    (method, 0u8..2).prop_map(|(method, n)| ca(method, n))
}

fn outputs() -> impl Strategy<Value = DerivationOutput> {
    let path = || (0u8..3).prop_map(path);
    let method = || prop::sample::select(&[CaMethod::Flat, CaMethod::Nar][..]);
    let algo = || prop::sample::select(&HashAlgo::ALL[..]);
    prop_oneof![
        path().prop_map(DerivationOutput::InputAddressed),
        (prop::option::of(path()), addresses()).prop_map(|(path, ca)| DerivationOutput::Fixed { path, ca }),
        (method(), algo()).prop_map(|(method, algo)| DerivationOutput::Floating { method, algo }),
        (method(), algo()).prop_map(|(method, algo)| DerivationOutput::Impure { method, algo }),
        Just(DerivationOutput::Deferred),
    ]
}

fn builds() -> impl Strategy<Value = Build> {
    let drv = (
        btree_map(
            prop::sample::select(&["out", "dev", "o"][..]).prop_map(str::to_owned),
            outputs(),
            0..3,
        ),
        bytes(),
        bytes(),
        vec(bytes(), 0..4),
        btree_map(bytes(), bytes(), 0..4),
    );
    let object = (
        0u8..4,
        0u8..3,
        btree_set(0u8..4, 0..3),
        prop::option::of(addresses()),
    )
        .prop_map(|(n, of, references, ca)| object(n, of, references, ca));
    let class = (
        prop::sample::select(&["", "a", "ab"][..]),
        prop::sample::select(&["", "b", "bc"][..]),
        btree_map(
            prop::sample::select(&["/bin/sh", "/b"][..]).prop_map(str::to_owned),
            (0u8..2).prop_map(content),
            0..2,
        ),
        0u32..3,
    );
    (drv, vec(object, 0..4), class).prop_map(|(drv, inputs, class)| Build {
        drv: BasicDerivation {
            outputs: drv.0,
            input_srcs: BTreeSet::new(),
            platform: drv.1,
            builder: drv.2,
            args: drv.3,
            env: drv.4,
        },
        inputs: inputs.into_iter().map(|o| (o.path.clone(), o)).collect(),
        class: EnvironmentClass {
            system: class.0.to_owned(),
            sandbox: class.1.to_owned(),
            extra: class.2,
            cores: class.3,
        },
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// The build and everything that differs from it in one place: as many keys as there are builds.
    #[test]
    fn every_change_changes_the_key(build in builds()) {
        let mut builds = vec![build.clone()];
        builds.extend(build.changes());
        let mut by_key: BTreeMap<BuildKey, Build> = BTreeMap::new();
        for other in builds {
            if let Some(same) = by_key.insert(other.key(), other.clone()) {
                prop_assert_eq!(same, other, "one key for two builds");
            }
        }
    }

    #[test]
    fn two_builds_have_one_key_exactly_when_they_are_one(a in builds(), b in builds()) {
        prop_assert_eq!(a.key() == b.key(), a == b);
    }

    /// The sandbox mounts the closure, whatever part of it the client happened to name.
    #[test]
    fn listed_inputs_do_not_matter(build in builds(), listed in btree_set(0u8..6, 0..6)) {
        // Scratch paths follow from the derivation as it was sent.
        prop_assume!(build.drv.scratch_paths(NAME).unwrap().is_empty());
        let other = build.with(|b| b.drv.input_srcs = listed.into_iter().map(path).collect());
        prop_assert_eq!(other.key(), build.key());
    }

    #[test]
    fn the_order_in_which_a_build_is_put_together_does_not_matter(build in builds()) {
        let backwards = |b: &Build| Build {
            drv: BasicDerivation {
                outputs: b.drv.outputs.clone().into_iter().rev().collect(),
                env: b.drv.env.clone().into_iter().rev().collect(),
                ..b.drv.clone()
            },
            inputs: b.inputs.clone(),
            class: EnvironmentClass {
                extra: b.class.extra.clone().into_iter().rev().collect(),
                ..b.class.clone()
            },
        };
        let other = backwards(&build);
        let inputs = InputMapping::new(build.inputs.values().rev().cloned());
        prop_assert_eq!(BuildKey::new(NAME, &other.drv, &inputs, &other.class), build.key());
        prop_assert_eq!(inputs.len(), build.inputs.len());
    }
}

/// Where the paths of outputs follow from their bytes, there are two builds of everything.
#[test]
fn the_form_of_content_addresses() {
    let keys = [[1; 32], [2; 32]].map(BuildKey);
    let both = keys.map(|key| SelfReferences::ALL.map(|form| key.in_form(form)));
    let all: BTreeSet<BuildKey> = both.iter().flatten().copied().collect();
    assert_eq!(all.len(), 4);
    assert_eq!(
        both[0][1].to_string(),
        "30262b7000c48a84cf5dc7fea9e6c215221dff0b35f01954ca3bd00c8e63f9a1",
        "the stored format of build keys has changed"
    );
}

/// The key is stored: when this fails, the format has changed and needs another tag.
#[test]
fn the_key_of_a_fixed_example() {
    let example = Build {
        drv: BasicDerivation {
            outputs: BTreeMap::from([
                ("out".into(), DerivationOutput::InputAddressed(path(1))),
                (
                    "src".into(),
                    DerivationOutput::Fixed {
                        path: Some(path(2)),
                        ca: ca(CaMethod::Nar, 3),
                    },
                ),
                (
                    "ca".into(),
                    DerivationOutput::Floating {
                        method: CaMethod::Nar,
                        algo: HashAlgo::Sha256,
                    },
                ),
            ]),
            input_srcs: BTreeSet::from([path(4)]),
            platform: b"x86_64-linux".to_vec(),
            builder: b"/bin/sh".to_vec(),
            args: vec![b"-e".to_vec(), b"\xff".to_vec()],
            env: BTreeMap::from([(b"name".to_vec(), b"x".to_vec()), (b"out".to_vec(), Vec::new())]),
        },
        inputs: [
            object(4, 5, BTreeSet::from([4, 6]), None),
            object(6, 7, BTreeSet::new(), Some(ca(CaMethod::Text, 8))),
        ]
        .into_iter()
        .map(|o| (o.path.clone(), o))
        .collect(),
        class: EnvironmentClass {
            system: "x86_64-linux".into(),
            sandbox: "namespaces-1".into(),
            extra: BTreeMap::from([("/bin/sh".into(), content(9))]),
            cores: 4,
        },
    };
    assert_eq!(
        example.key().to_string(),
        "0750a1658c29986743f233fed3c91053fe47185c70d70b3b11f818e9c3aa745a",
        "the stored format of build keys has changed"
    );
}

/// What a string would have to hold to be taken for itself and its successor: the successor's length before its bytes.
fn continued(first: &[u8], rest: &[&[u8]]) -> Vec<u8> {
    let mut all = first.to_vec();
    for next in rest {
        all.extend((next.len() as u64).to_le_bytes());
        all.extend_from_slice(next);
    }
    all
}

/// Strings that hold the encoding of those after them, counts included: a length in front of each keeps them apart.
#[test]
fn strings_that_continue_as_the_encoding_would() {
    let drv = |args: &[&[u8]], env: &[(&[u8], &[u8])]| Build {
        drv: BasicDerivation {
            args: args.iter().map(|a| a.to_vec()).collect(),
            env: env.iter().map(|(n, v)| (n.to_vec(), v.to_vec())).collect(),
            ..BasicDerivation::default()
        },
        inputs: BTreeMap::new(),
        class: EnvironmentClass {
            system: "s".into(),
            sandbox: "b".into(),
            extra: BTreeMap::new(),
            cores: 1,
        },
    };
    let one = 1_u64.to_le_bytes();
    let honest = drv(&[b"a", b"b"], &[(b"n", b"v"), (b"o", b"w")]);
    let swallowed = [
        drv(&[&continued(b"a", &[b"b"])], &[(b"n", b"v"), (b"o", b"w")]),
        drv(&[b"a", b"b"], &[(b"n", &continued(b"v", &[b"o", b"w"]))]),
        drv(&[b"a", b"b"], &[(&continued(b"n", &[b"v", b"o"]), b"w")]),
        drv(
            &[b"a", &[&b"b"[..], &one, &continued(b"", &[b"n", b"v"])].concat()],
            &[(b"o", b"w")],
        ),
        drv(&[b"a", b"b", b"n", b"v"], &[(b"o", b"w")]),
        honest
            .with(|b| b.class.system = "sb".into())
            .with(|b| b.class.sandbox = String::new()),
    ];
    for other in swallowed {
        assert_ne!(other.key(), honest.key(), "{other:?}");
    }
}

/// A reference that becomes an input, and an input that becomes a reference.
#[test]
fn references_are_no_inputs() {
    let with = |objects: Vec<Object>| InputMapping::new(objects);
    let class = EnvironmentClass {
        system: String::new(),
        sandbox: String::new(),
        extra: BTreeMap::new(),
        cores: 0,
    };
    let key = |inputs: Vec<Object>| BuildKey::new(NAME, &BasicDerivation::default(), &with(inputs), &class);
    let keys = BTreeSet::from([
        key(vec![
            object(1, 1, BTreeSet::from([2]), None),
            object(2, 2, BTreeSet::new(), None),
        ]),
        key(vec![
            object(1, 1, BTreeSet::new(), None),
            object(2, 2, BTreeSet::new(), None),
        ]),
        key(vec![
            object(1, 1, BTreeSet::new(), None),
            object(2, 2, BTreeSet::from([1]), None),
        ]),
        key(vec![object(1, 1, BTreeSet::from([2]), None)]),
        key(vec![
            object(1, 2, BTreeSet::from([2]), None),
            object(2, 1, BTreeSet::new(), None),
        ]),
    ]);
    assert_eq!(keys.len(), 5);
}

/// The length of an archive and the registered size add nothing: the content says both.
#[test]
fn what_follows_from_the_content_is_not_in_the_key() {
    let class = EnvironmentClass {
        system: String::new(),
        sandbox: String::new(),
        extra: BTreeMap::new(),
        cores: 0,
    };
    let one = object(1, 1, BTreeSet::new(), None);
    let mut other = one.clone();
    other.nar_size = 77;
    let key = |o: Object| BuildKey::new(NAME, &BasicDerivation::default(), &InputMapping::new([o]), &class);
    assert_eq!(key(one), key(other));
}

/// What a build with floating outputs sees are scratch paths, and what becomes of it has the derivation's name.
#[test]
fn the_name_counts_where_outputs_are_floating() {
    let class = EnvironmentClass {
        system: "x86_64-linux".into(),
        sandbox: "1".into(),
        extra: BTreeMap::new(),
        cores: 1,
    };
    let key = |name: &str, output: DerivationOutput, src: u8| {
        let drv = BasicDerivation {
            outputs: BTreeMap::from([("out".to_owned(), output)]),
            input_srcs: [path(src)].into(),
            ..BasicDerivation::default()
        };
        BuildKey::new(name, &drv, &InputMapping::default(), &class)
    };
    let floating = || DerivationOutput::Floating {
        method: CaMethod::Nar,
        algo: HashAlgo::Sha256,
    };
    assert_eq!(key("a", floating(), 1), key("a", floating(), 1));
    assert_ne!(key("a", floating(), 1), key("b", floating(), 1));
    assert_ne!(key("a", floating(), 1), key("a", floating(), 2));
    let known = || DerivationOutput::InputAddressed(path(3));
    assert_eq!(key("a", known(), 1), key("b", known(), 2));
}
