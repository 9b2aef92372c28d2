//! A slow service: the rules of `firn-core`, asked anew for every step, on evidence that is only ever added.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use firn_core::{
    AccountId, BuildKey, Claim, Draft, EnvironmentClass, Evidence, Facts, InputMapping, KeyId, Object,
    ObjectId, Origin, Policy, Reuse, Rung, View, Witness, decide,
};
use firn_nix::{BasicDerivation, DerivationOutput, NarHash, StorePath};
use firn_simulate::{Drv, Graph, World};

const KEY: KeyId = KeyId(1);

/// Sixteen numbered bytes are enough to be told apart.
pub fn bytes(n: u128) -> NarHash {
    let mut hash = [0; 32];
    hash[..16].copy_from_slice(&n.to_le_bytes());
    NarHash::new(hash)
}

pub fn path(drv: Drv) -> StorePath {
    let mut hash = [0; 20];
    hash[..4].copy_from_slice(&drv.to_le_bytes());
    StorePath::new(&hash, "x").unwrap()
}

pub struct Slow<'w> {
    pub graph: &'w Graph,
    pub world: &'w World<'w>,
    objects: Vec<Object>,
    /// What each account has, and what the cache has signed (nobody's).
    evidence: Vec<(Option<u32>, Evidence)>,
    results: HashMap<BuildKey, NarHash>,
    grounded: BTreeMap<Drv, NarHash>,
}

impl<'w> Slow<'w> {
    pub fn new(graph: &'w Graph, world: &'w World<'w>) -> Self {
        Self {
            graph,
            world,
            objects: Vec::new(),
            evidence: Vec::new(),
            results: HashMap::new(),
            grounded: BTreeMap::new(),
        }
    }

    pub fn object(&self, drv: Drv, content: NarHash) -> Object {
        Object {
            path: path(drv),
            content,
            nar_size: 1,
            references: self.world.references(drv).iter().copied().map(path).collect(),
            ca: None,
            self_references: None,
        }
    }

    fn say(&mut self, account: Option<u32>, object: Object, origin: Origin) {
        let id = self.objects.iter().position(|o| *o == object).unwrap_or_else(|| {
            self.objects.push(object.clone());
            self.objects.len() - 1
        });
        let evidence = Evidence {
            id: ObjectId(id as i64),
            claim: Claim {
                object,
                origin,
                deriver: None,
                signatures: BTreeSet::new(),
                registered: 0,
                cache: None,
                shareable: true,
            },
            witness: if account.is_some() {
                Witness::Own
            } else {
                Witness::Key(KEY)
            },
            seq: self.evidence.len() as i64,
            kept: true,
        };
        self.evidence.push((account, evidence));
    }

    pub fn view(&self, account: u32) -> View {
        let policy = Policy {
            keys: vec![KEY],
            ..Policy::alone(AccountId(account.into()))
        };
        let mut draft = Draft::new(&policy);
        let seen = |(whose, evidence): &(Option<u32>, Evidence)| {
            whose.is_none_or(|w| w == account).then(|| evidence.clone())
        };
        draft.add(
            self.graph.drvs().map(path),
            self.evidence.iter().filter_map(seen),
            |_| false,
        );
        draft.decide()
    }

    pub fn content(&self, account: u32, drv: Drv) -> Option<NarHash> {
        self.view(account).get(&path(drv)).map(|c| c.object().content)
    }

    /// Inputs and the closure of their references, ascending.
    pub fn input_closure(&self, drv: Drv) -> BTreeSet<Drv> {
        let mut todo = self.graph.inputs(drv).to_vec();
        let mut closure = BTreeSet::new();
        while let Some(drv) = todo.pop() {
            if closure.insert(drv) {
                todo.extend(self.world.references(drv));
            }
        }
        closure
    }

    /// The real key, over contents from anywhere.
    pub fn key(&self, drv: Drv, content: impl Fn(Drv) -> NarHash) -> BuildKey {
        let closure = self.input_closure(drv);
        let mapping = InputMapping::new(closure.into_iter().map(|d| self.object(d, content(d))));
        let derivation = BasicDerivation {
            outputs: BTreeMap::from([("out".to_owned(), DerivationOutput::InputAddressed(path(drv)))]),
            ..BasicDerivation::default()
        };
        let class = EnvironmentClass {
            system: "x86_64-linux".into(),
            sandbox: "1".into(),
            extra: BTreeMap::new(),
            cores: 1,
        };
        BuildKey::new("x", &derivation, &mapping, &class)
    }

    /// The cache's closure of a derivation becomes known.
    pub fn fetch(&mut self, drv: Drv, cached: &BTreeMap<Drv, NarHash>) {
        for reference in self.world.references(drv).to_vec() {
            self.fetch(reference, cached);
        }
        let object = self.object(drv, cached[&drv]);
        self.say(None, object, Origin::Substituted);
    }

    pub fn upload(&mut self, account: u32, drv: Drv, content: NarHash) {
        let object = self.object(drv, content);
        self.say(Some(account), object, Origin::Uploaded);
    }

    /// Down the ladder; `run` is what a run would give.
    pub fn request(
        &mut self,
        account: u32,
        drv: Drv,
        cached: &BTreeMap<Drv, NarHash>,
        run: impl FnOnce(BuildKey) -> NarHash,
    ) -> Rung {
        let facts = |slow: &Self| Facts {
            outputs_valid: slow.content(account, drv).is_some(),
            ..Facts::default()
        };
        if decide(facts(self)) == Reuse::View {
            return Rung::AlreadyValid;
        }
        if cached.contains_key(&drv) {
            self.fetch(drv, cached);
            assert_eq!(decide(facts(self)), Reuse::View);
            return Rung::Substituted;
        }
        self.by_key(account, drv, run).0
    }

    /// By derivation: whether an account with this view may take what is built of it.
    fn open(&self, view: &View) -> BTreeMap<Drv, bool> {
        let mut open = BTreeMap::new();
        for drv in self.graph.drvs() {
            let below = self.graph.inputs(drv).iter().all(|input| open[input]);
            let own = view.get(&path(drv)).map(|choice| choice.object().content);
            let grounded = self.grounded.get(&drv).copied();
            let is_open = if self.graph.is_fixed(drv) {
                own.is_some() || (grounded.is_some() && below)
            } else {
                below && (own.is_none() || own == grounded)
            };
            open.insert(drv, is_open);
        }
        open
    }

    fn by_key(&mut self, account: u32, drv: Drv, run: impl FnOnce(BuildKey) -> NarHash) -> (Rung, NarHash) {
        let view = self.view(account);
        let key = self.key(drv, |input| view.get(&path(input)).unwrap().object().content);
        let stored = self.results.get(&key).copied();
        let (rung, content) = match stored {
            Some(content) => (Rung::Shared, content),
            None => (Rung::Built, run(key)),
        };
        self.results.insert(key, content);
        let object = self.object(drv, content);
        self.say(Some(account), object, Origin::Built);
        (rung, content)
    }

    /// A whole graph; everything that the service comes to and how that is answered, ascending.
    pub fn build_graph(
        &mut self,
        account: u32,
        target: Drv,
        cached: &BTreeMap<Drv, NarHash>,
        mut run: impl FnMut(Drv, BuildKey) -> NarHash,
    ) -> BTreeMap<Drv, Rung> {
        let before = self.view(account);
        let mut met = BTreeMap::new();
        let may = self.open(&before);
        let may_take = |drv: Drv| match self.graph.is_fixed(drv) {
            true => may[&drv],
            false => self.graph.inputs(drv).iter().all(|input| may[input]),
        };
        let mut open = BTreeSet::from([target]);
        while let Some(drv) = open.pop_last() {
            let rung = if before.get(&path(drv)).is_some() {
                Rung::AlreadyValid
            } else if cached.contains_key(&drv) {
                Rung::Substituted
            } else if self.grounded.contains_key(&drv) && may_take(drv) {
                Rung::Grounded
            } else {
                open.extend(self.graph.inputs(drv));
                Rung::Built
            };
            met.insert(drv, rung);
        }
        for (drv, rung) in &mut met {
            match rung {
                Rung::Substituted => self.fetch(*drv, cached),
                Rung::Grounded => self.take(account, *drv),
                Rung::Built => {
                    let view = self.view(account);
                    let known = |input: &Drv| {
                        let content = view.get(&path(*input)).unwrap().object().content;
                        self.graph.is_fixed(*input) || self.grounded.get(input) == Some(&content)
                    };
                    let grounded = self.graph.is_fixed(*drv) || self.input_closure(*drv).iter().all(known);
                    let content;
                    (*rung, content) = self.by_key(account, *drv, |key| run(*drv, key));
                    if grounded {
                        self.grounded.insert(*drv, content);
                    }
                }
                _ => {}
            }
        }
        met
    }

    /// What is grounded becomes valid, after what it refers to.
    fn take(&mut self, account: u32, drv: Drv) {
        if self.content(account, drv).is_some() {
            return;
        }
        for reference in self.world.references(drv).to_vec() {
            self.take(account, reference);
        }
        let object = self.object(drv, self.grounded[&drv]);
        self.say(Some(account), object, Origin::Built);
    }
}
