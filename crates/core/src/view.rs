//! Views: what one account sees, as a function of its policy and the evidence that the policy admits.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use firn_nix::StorePath;
use foldhash::quality::RandomState;

use crate::{AccountId, Evidence, KeyId, Object, ObjectId, Origin, Policy, Witness};

/// Why a view has the content that it has for a path. The order of the variants is the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// The path commits to the bytes.
    ContentAddressed,
    /// A trusted key has signed it: the first such of the policy.
    Signed(KeyId),
    /// Built or reused for the account.
    Built,
    /// Built or reused for an account that it trusts.
    TrustedBuild(AccountId),
    /// Uploaded by an account whose uploads it trusts.
    TrustedUpload(AccountId),
    /// Uploaded by itself.
    Uploaded,
}

/// What decides between candidates, the smallest first: the kind of reason, the place of its witness in the policy, the age.
type Rank = (u8, u32, u8, i64);

/// A place in a policy.
fn short(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

/// Whether a policy admits a piece of evidence, why, and how it compares.
///
/// The order is fixed: content-addressed, signed in the order of the policy's keys, built for the account, trusted accounts in the
/// order of the policy (what was built for one before what it uploaded), own uploads; the oldest of equals. Convergence on the most
/// widely shared content is what makes later builds shareable.
fn rank(policy: &Policy, evidence: &Evidence) -> Option<(Why, Rank)> {
    let claim = &evidence.claim;
    let seq = evidence.seq;
    let (why, rank) = match evidence.witness {
        Witness::Key(key) => {
            let place = policy.keys.iter().position(|k| *k == key)?;
            (Why::Signed(key), (1, short(place), 0, seq))
        }
        Witness::Own => match claim.origin {
            Origin::Built => (Why::Built, (2, 0, 0, seq)),
            Origin::Uploaded => (Why::Uploaded, (4, 0, 0, seq)),
            // A cache's word alone: only the content address below can save it.
            Origin::Substituted if claim.object.is_addressed() => (Why::ContentAddressed, (0, 0, 0, seq)),
            Origin::Substituted => return None,
        },
        Witness::Account(account) => {
            let (place, trust) = policy.trust(account, evidence.kept)?;
            let place = short(place);
            match claim.origin {
                origin if !trust.covers(origin) => return None,
                Origin::Built => (Why::TrustedBuild(account), (3, place, 0, seq)),
                _ => (Why::TrustedUpload(account), (3, place, 1, seq)),
            }
        }
    };
    Some(match claim.object.is_addressed() {
        true => (Why::ContentAddressed, (0, u32::from(rank.0), rank.2, seq)),
        false => (why, rank),
    })
}

/// An object that a policy admits for a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The object's number.
    pub id: ObjectId,
    /// The object.
    pub object: Arc<Object>,
    /// The best reason.
    pub why: Why,
    /// The derivation that it is said to come from, by the account itself or by one that it trusts.
    pub deriver: Option<StorePath>,
    /// Signatures that came with the evidence that counts, in order.
    pub signatures: Vec<String>,
    /// Seconds since 1970 of the deciding evidence.
    pub registered: u64,
    /// Cache that the account got it from.
    pub cache: Option<String>,
    rank: Rank,
    /// Of the evidence that names the deriver.
    deriver_rank: Option<Rank>,
    /// Of the account's own best evidence.
    own_rank: Option<Rank>,
    /// Of the best that an account has and can take back.
    loose_rank: Option<Rank>,
    /// A signature that counts is there as long as somebody else shares it.
    loose_signature: bool,
}

impl Candidate {
    /// Whether others could take back something of why it is believed: it has to be kept for the account before that is told of it. What is
    /// behind the account's own reasons changes nothing when it goes, but for signatures, which are passed on.
    fn is_loose(&self) -> bool {
        let behind = |loose: Rank| self.own_rank.is_some_and(|own| own < loose);
        self.loose_signature || self.loose_rank.is_some_and(|loose| !behind(loose))
    }

    fn hold(&mut self, rank: Rank, witness: Witness, kept: bool) {
        let best = match witness {
            Witness::Own => &mut self.own_rank,
            Witness::Account(_) if !kept => &mut self.loose_rank,
            Witness::Account(_) => return,
            Witness::Key(_) => {
                self.loose_signature |= !kept;
                return;
            }
        };
        *best = Some(best.map_or(rank, |before| before.min(rank)));
    }

    /// What the account's own claim tells besides the bytes, whether or not it is a reason to believe them. The deriver of the best
    /// evidence that names one stays.
    fn tell(&mut self, rank: Rank, claim: Told) {
        for signature in claim.signatures {
            if let Err(place) = self.signatures.binary_search(&signature) {
                self.signatures.insert(place, signature);
            }
        }
        if claim.deriver.is_some() && self.deriver_rank.is_none_or(|known| rank < known) {
            (self.deriver, self.deriver_rank) = (claim.deriver, Some(rank));
        }
        if self.cache.is_none() {
            self.cache = claim.cache;
        }
    }
}

/// What a claim tells of an object besides the bytes.
#[derive(Clone, Debug)]
struct Told {
    deriver: Option<StorePath>,
    signatures: BTreeSet<String>,
    cache: Option<String>,
}

/// Behind all evidence that is a reason to believe.
const NO_REASON: Rank = (u8::MAX, 0, 0, 0);

/// The content that a view has for one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What it has.
    pub candidate: Candidate,
    /// How many different contents the evidence admitted.
    pub contents: usize,
    /// Whether it is the best of all that the evidence admits, so that nothing but new evidence for this very path can change it. Otherwise
    /// something better waits for a reference.
    pub firm: bool,
}

impl Choice {
    /// The object.
    #[must_use]
    pub fn object(&self) -> &Object {
        &self.candidate.object
    }
}

/// Evidence on its way to a view: gathered until every reference has been looked up.
#[derive(Clone, Debug)]
pub struct Draft<'p> {
    policy: &'p Policy,
    asked: BTreeSet<StorePath>,
    /// References that were not asked for yet.
    open: BTreeSet<StorePath>,
    candidates: BTreeMap<StorePath, Vec<Candidate>>,
    /// Objects whose closure is known to be in the view.
    closed: BTreeSet<ObjectId>,
    /// What the account fetched from caches: no reason to believe it, but it tells where a believed object came from.
    fetched: BTreeMap<ObjectId, Told>,
}

impl<'p> Draft<'p> {
    /// Nothing gathered.
    #[must_use]
    pub fn new(policy: &'p Policy) -> Self {
        Self {
            policy,
            asked: BTreeSet::new(),
            open: BTreeSet::new(),
            candidates: BTreeMap::new(),
            closed: BTreeSet::new(),
            fetched: BTreeMap::new(),
        }
    }

    /// Takes all evidence that there is for some paths. `is_closed` knows objects whose closure was in a view of the same policy and
    /// evidence, or of less of it: their references need no look.
    pub fn add(
        &mut self,
        paths: impl IntoIterator<Item = StorePath>,
        evidence: impl IntoIterator<Item = Evidence>,
        is_closed: impl Fn(ObjectId) -> bool,
    ) {
        for path in paths {
            self.open.remove(&path);
            self.asked.insert(path);
        }
        for evidence in evidence {
            let (id, witness, kept) = (evidence.id, evidence.witness, evidence.kept);
            let ranked = rank(self.policy, &evidence);
            let claim = evidence.claim;
            let told = match witness {
                // Whoever brought it is nobody that the account trusts.
                Witness::Key(_) => Told {
                    deriver: None,
                    signatures: claim.signatures,
                    cache: None,
                },
                Witness::Own | Witness::Account(_) => Told {
                    deriver: claim.deriver,
                    signatures: claim.signatures,
                    cache: claim.cache,
                },
            };
            let Some((why, rank)) = ranked else {
                if witness == Witness::Own {
                    if let Some(candidate) = self.candidate(&claim.object.path, id) {
                        candidate.tell(NO_REASON, told.clone());
                    }
                    self.fetched.insert(id, told);
                }
                continue;
            };
            if is_closed(id) {
                self.closed.insert(id);
            }
            if let Some(candidate) = self.candidate(&claim.object.path, id) {
                candidate.tell(rank, told);
                candidate.hold(rank, witness, kept);
                if rank < candidate.rank {
                    (candidate.why, candidate.rank, candidate.registered) = (why, rank, claim.registered);
                }
                continue;
            }
            let mut candidate = Candidate {
                id,
                why,
                deriver: None,
                signatures: Vec::new(),
                registered: claim.registered,
                cache: None,
                rank,
                deriver_rank: None,
                own_rank: None,
                loose_rank: None,
                loose_signature: false,
                object: Arc::new(claim.object),
            };
            candidate.tell(rank, told);
            candidate.hold(rank, witness, kept);
            if let Some(told) = self.fetched.get(&id) {
                candidate.tell(NO_REASON, told.clone());
            }
            if !self.closed.contains(&id) {
                let references = candidate.object.references.iter();
                let unasked = references.filter(|path| !self.asked.contains(*path));
                self.open.extend(unasked.cloned());
            }
            // Few paths have more than one, and there may be very many paths.
            let of_path = self.candidates.entry(candidate.object.path.clone());
            of_path.or_insert_with(|| Vec::with_capacity(1)).push(candidate);
        }
    }

    fn candidate(&mut self, path: &StorePath, id: ObjectId) -> Option<&mut Candidate> {
        self.candidates.get_mut(path)?.iter_mut().find(|c| c.id == id)
    }

    /// References that were not asked for yet: what to look up next.
    #[must_use]
    pub const fn open(&self) -> &BTreeSet<StorePath> {
        &self.open
    }

    /// Number of paths that were looked up.
    #[must_use]
    pub fn looked_up(&self) -> usize {
        self.asked.len()
    }

    /// The candidates for a path, whether or not their references are in the view; the best first.
    #[must_use]
    pub fn candidates(&self, path: &StorePath) -> Vec<&Candidate> {
        let mut all: Vec<&Candidate> = self.candidates.get(path).into_iter().flatten().collect();
        all.sort_unstable_by_key(|c| c.rank);
        all
    }

    /// The largest view that is closed: of each path the best candidate whose references all are in the view too.
    #[must_use]
    pub fn decide(self) -> View {
        let mut candidates = self.candidates;
        let best: BTreeMap<StorePath, Rank> = candidates
            .iter()
            .filter_map(|(path, of_path)| Some((path.clone(), of_path.iter().map(|c| c.rank).min()?)))
            .collect();
        // Paths that have lost their last candidate, or never had one.
        let mut lost: Vec<StorePath> = Vec::new();
        let mut needed_by: BTreeMap<StorePath, Vec<StorePath>> = BTreeMap::new();
        for (path, of_path) in &candidates {
            for candidate in of_path.iter().filter(|c| !self.closed.contains(&c.id)) {
                for reference in &candidate.object.references {
                    if !candidates.contains_key(reference) {
                        lost.push(reference.clone());
                    }
                    needed_by.entry(reference.clone()).or_default().push(path.clone());
                }
            }
        }
        while let Some(gone) = lost.pop() {
            for user in needed_by.remove(&gone).unwrap_or_default() {
                let Some(of_path) = candidates.get_mut(&user) else {
                    continue;
                };
                of_path.retain(|c| self.closed.contains(&c.id) || !c.object.references.contains(&gone));
                if of_path.is_empty() {
                    candidates.remove(&user);
                    lost.push(user);
                }
            }
        }
        let choices = candidates
            .into_iter()
            .filter_map(|(path, of_path)| {
                let contents: BTreeSet<_> = of_path.iter().map(|c| c.object.content).collect();
                let contents = contents.len();
                let candidate = of_path.into_iter().min_by_key(|c| c.rank)?;
                let firm = best.get(&path) == Some(&candidate.rank);
                let choice = Choice {
                    candidate,
                    contents,
                    firm,
                };
                Some((path, Arc::new(choice)))
            })
            .collect();
        View { choices }
    }
}

/// Part of one account's view: path → content. Closed: the references of what it has are in the whole view.
#[derive(Clone, Debug, Default)]
pub struct View {
    choices: BTreeMap<StorePath, Arc<Choice>>,
}

impl FromIterator<(StorePath, Arc<Choice>)> for View {
    fn from_iter<I: IntoIterator<Item = (StorePath, Arc<Choice>)>>(choices: I) -> Self {
        Self {
            choices: choices.into_iter().collect(),
        }
    }
}

impl View {
    /// What the view has for a path.
    #[must_use]
    pub fn get(&self, path: &StorePath) -> Option<&Choice> {
        self.choices.get(path).map(Arc::as_ref)
    }

    /// Leaves what these paths and all that they refer to are, as far as it is here.
    pub fn retain_reachable<'p>(&mut self, roots: impl IntoIterator<Item = &'p StorePath>) {
        let mut reached: BTreeMap<StorePath, Arc<Choice>> = BTreeMap::new();
        let mut open: Vec<StorePath> = roots.into_iter().cloned().collect();
        while let Some(path) = open.pop() {
            if let Some((path, choice)) = self.choices.remove_entry(&path) {
                let unseen = |reference: &&StorePath| self.choices.contains_key(*reference);
                open.extend(choice.object().references.iter().filter(unseen).cloned());
                reached.insert(path, choice);
            }
        }
        self.choices = reached;
    }

    /// Objects of which others could take back something of why they are believed.
    #[must_use]
    pub fn loose(&self) -> BTreeMap<StorePath, ObjectId> {
        let loose = self
            .choices
            .iter()
            .filter(|(_, choice)| choice.candidate.is_loose());
        loose
            .map(|(path, choice)| (path.clone(), choice.candidate.id))
            .collect()
    }

    /// Takes out what the view has for a path.
    pub fn take(&mut self, path: &StorePath) -> Option<Arc<Choice>> {
        self.choices.remove(path)
    }

    /// Adds what is known of one path of the same account's view.
    pub fn insert(&mut self, path: StorePath, choice: Arc<Choice>) {
        self.choices.insert(path, choice);
    }

    /// Adds what another part of the same account's view has.
    pub fn extend(&mut self, other: Self) {
        self.choices.extend(other.choices);
    }

    /// Has every name be the very string that `known` has for it, or else the key of the view. `known` answers often, and there are far
    /// more references than paths.
    pub fn share_names(&mut self, known: impl Fn(&StorePath) -> Option<StorePath>) {
        let keys: HashSet<StorePath, RandomState> = self.choices.keys().cloned().collect();
        let shared = |name: &StorePath| {
            known(name)
                .or_else(|| keys.get(name).cloned())
                .unwrap_or_else(|| name.clone())
        };
        for choice in self.choices.values_mut() {
            let candidate = &mut Arc::make_mut(choice).candidate;
            candidate.deriver = candidate.deriver.as_ref().map(shared);
            let object = Arc::make_mut(&mut candidate.object);
            object.path = shared(&object.path);
            object.references = object.references.iter().map(shared).collect();
        }
    }

    /// The objects, by path.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.choices.values().map(|choice| choice.object())
    }

    /// The objects, to keep.
    pub fn shared_objects(&self) -> impl Iterator<Item = Arc<Object>> {
        self.choices
            .values()
            .map(|choice| Arc::clone(&choice.candidate.object))
    }

    /// The choices, by path.
    pub fn choices(&self) -> impl Iterator<Item = (&StorePath, &Arc<Choice>)> {
        self.choices.iter()
    }
}
