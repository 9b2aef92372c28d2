//! Which path an output got, as far as an account believes it.

use std::collections::{BTreeMap, BTreeSet};

use firn_core::{Origin, RealisationClaim, RealisationEvidence, realisations_believed};
use firn_nix::derivation::{DerivationKind, ModuloError};
use firn_nix::realisation::{DrvId, DrvOutput, Realisation};
use firn_nix::rewrite::{SelfReferences, placeholder};
use firn_nix::signature::SecretKey;
use firn_nix::{BasicDerivation, Derivation, StorePath, excerpt, output_path_name};
use firn_protocol::{BuiltOutput, StoreError};

use crate::ports::{BuildRecord, Ports, Views as _};
use crate::resolve::failed;
use crate::{AccountStore, signatures, signing, untrusted};

/// Bytes of the largest realisation that a client may register.
const MAX_REGISTERED: usize = 1 << 16;

impl<P: Ports> AccountStore<P> {
    /// The path that an output got: the best that the account believes and whose path is valid.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn realised(&self, id: &DrvOutput) -> Result<Option<StorePath>, StoreError> {
        let mut found = self.realisations(std::slice::from_ref(id)).await?;
        Ok(found.remove(id).map(|r| r.out_path))
    }

    /// [`AccountStore::realised`] for many at once; what is not known is left out.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn realisations(
        &self,
        ids: &[DrvOutput],
    ) -> Result<BTreeMap<DrvOutput, Realisation>, StoreError> {
        self.realisations_where(ids, |_| true).await
    }

    /// The best among those for which `fits` holds.
    async fn realisations_where(
        &self,
        ids: &[DrvOutput],
        fits: impl Fn(&Realisation) -> bool + Send,
    ) -> Result<BTreeMap<DrvOutput, Realisation>, StoreError> {
        let terms = self.terms().await?;
        let mut evidence = self
            .house
            .db
            .realisations(&terms.policy, ids)
            .await
            .map_err(failed)?;
        let form = self.session.client.get();
        evidence.retain(|e| e.claim.is_for(form) && fits(&e.claim.realisation));
        if evidence.is_empty() {
            return Ok(BTreeMap::new());
        }
        let ranked = realisations_believed(&terms.policy, &terms.settings.trusted_public_keys, evidence);
        let path = |evidence: &RealisationEvidence| evidence.claim.realisation.out_path.clone();
        let paths: BTreeSet<StorePath> = ranked.iter().map(|(e, _)| path(e)).collect();
        let paths: Vec<StorePath> = paths.into_iter().collect();
        let view = self.house.view(&terms, &paths).await?;
        let mut best = BTreeMap::new();
        for (evidence, _) in ranked {
            let found = view.get(&evidence.claim.realisation.out_path);
            if found.is_some_and(|choice| form.is_none_or(|form| choice.object().is_right_in(form))) {
                let id = evidence.claim.realisation.id.clone();
                best.entry(id).or_insert(evidence);
            }
        }
        // As for paths: nobody else takes back what is told.
        let loose: Vec<RealisationEvidence> = best.values().filter(|e| !e.kept).cloned().collect();
        self.house
            .db
            .tell_realisations(self.account.id, &loose)
            .await
            .map_err(failed)?;
        let best = best.into_iter();
        Ok(best
            .map(|(id, evidence)| (id, evidence.claim.realisation))
            .collect())
    }

    /// Notes what Firn's own builds, or reused ones, gave for this account. `form`: for clients with such content addresses only.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn record_realisations(
        &self,
        built: &BTreeMap<DrvOutput, StorePath>,
        form: Option<SelfReferences>,
    ) -> Result<(), StoreError> {
        let key = signing::active_key(&self.house.db, self.account.id)
            .await
            .map_err(failed)?;
        let claims: Vec<_> = built
            .iter()
            .map(|(id, path)| self.claim(signed(key.as_ref(), id, path), Origin::Built, form))
            .collect();
        self.house
            .db
            .record_realisations(self.account.id, &claims)
            .await
            .map_err(failed)
    }

    /// Notes what the account's client says.
    pub(crate) async fn register(&self, realisation: Realisation) -> Result<(), StoreError> {
        let path = &realisation.out_path;
        let texts = realisation.signatures.iter().map(ToString::to_string).collect();
        signatures::check(path, &texts)?;
        if realisation.to_json().len() > MAX_REGISTERED {
            let id = &realisation.id;
            return Err(StoreError::new(format!(
                "cannot register '{id}': it has more than {MAX_REGISTERED} bytes"
            )));
        }
        // As with signatures of paths: the owner of the key would wonder.
        let fingerprint = realisation.fingerprint();
        let terms = self.terms().await?;
        let wrong = realisation.signatures.iter().find(|signature| {
            let mut keys = terms.settings.trusted_public_keys.iter();
            keys.any(|k| k.name() == signature.key_name() && !k.verify(fingerprint.as_bytes(), signature))
        });
        if let Some(wrong) = wrong {
            return Err(StoreError::new(format!(
                "cannot register '{}': its signature by the key '{}', which you trust, is not over it; sign it again, or leave the signature out",
                realisation.id,
                excerpt(wrong.key_name())
            )));
        }
        untrusted::register(&terms.settings, &realisation)?;
        if self.view(std::slice::from_ref(path)).await?.get(path).is_none() {
            let id = &realisation.id;
            return Err(StoreError::new(format!(
                "cannot register '{id}': its path '{path}' is not valid"
            )));
        }
        let claim = self.claim(realisation, Origin::Uploaded, self.session.client.get());
        self.house
            .db
            .record_realisations(self.account.id, &[claim])
            .await
            .map_err(failed)
    }

    fn claim(
        &self,
        realisation: Realisation,
        origin: Origin,
        form: Option<SelfReferences>,
    ) -> RealisationClaim {
        RealisationClaim {
            realisation,
            origin,
            registered: self.house.now(),
            form,
        }
    }

    /// What the account believes of these outputs; those of which it knows nothing are left out.
    pub(crate) async fn known_outputs(
        &self,
        outputs: &FloatingOutputs,
    ) -> Result<BTreeMap<String, BuiltOutput>, StoreError> {
        let ids: Vec<DrvOutput> = outputs
            .ids
            .values()
            .flat_map(|ids| [&ids.path, &ids.hash])
            .cloned()
            .collect();
        let mut found = self.realisations_where(&ids, |r| outputs.fits(r)).await?;
        let mut known = BTreeMap::new();
        for (name, ids) in &outputs.ids {
            let by_path = found.remove(&ids.path);
            let by_hash = found.remove(&ids.hash).filter(|_| outputs.hash_counts);
            let Some(out_path) = by_path.as_ref().or(by_hash.as_ref()).map(|r| r.out_path.clone()) else {
                continue;
            };
            let of = |realisation: Option<Realisation>| {
                let signatures = realisation
                    .filter(|r| r.out_path == out_path)
                    .map(|r| r.signatures);
                signatures.iter().flatten().map(ToString::to_string).collect()
            };
            let output = BuiltOutput {
                drv_hash: ids.drv_hash(),
                signatures: of(by_hash),
                path_signatures: of(by_path),
                out_path: out_path.clone(),
            };
            known.insert(name.clone(), output);
        }
        Ok(known)
    }

    /// Notes what a build gave, and tells it.
    pub(crate) async fn record_outputs(
        &self,
        outputs: &FloatingOutputs,
        record: &BuildRecord,
    ) -> Result<BTreeMap<String, BuiltOutput>, StoreError> {
        let built = record.outputs.iter();
        let built: BTreeMap<&String, &StorePath> =
            built.map(|(name, output)| (name, &output.object.path)).collect();
        let mut ids = BTreeMap::new();
        for (name, path) in &built {
            let (name, path) = (*name, *path);
            if let Some(of_output) = outputs.ids.get(name) {
                ids.insert(of_output.path.clone(), path.clone());
                if outputs.hash_counts {
                    ids.insert(of_output.hash.clone(), path.clone());
                }
            }
        }
        self.record_realisations(&ids, record.form()).await?;
        let key = signing::active_key(&self.house.db, self.account.id)
            .await
            .map_err(failed)?;
        let texts = |id: &DrvOutput, path: &StorePath| {
            let realisation = signed(key.as_ref(), id, path);
            realisation.signatures.iter().map(ToString::to_string).collect()
        };
        Ok(outputs
            .ids
            .iter()
            .filter_map(|(name, ids)| {
                let out_path = StorePath::clone(built.get(name)?);
                let output = BuiltOutput {
                    drv_hash: ids.drv_hash(),
                    signatures: texts(&ids.hash, &out_path),
                    path_signatures: texts(&ids.path, &out_path),
                    out_path,
                };
                Some((name.clone(), output))
            })
            .collect())
    }
}

fn signed(key: Option<&SecretKey>, id: &DrvOutput, path: &StorePath) -> Realisation {
    let mut realisation = Realisation::unsigned(id.clone(), path.clone());
    let signature = key.map(|k| k.sign(realisation.fingerprint().as_bytes()));
    realisation.signatures.extend(signature);
    realisation
}

/// Under which ids the realisations of a derivation's outputs are known, where their paths follow from their contents.
#[derive(Clone, Debug)]
pub(crate) struct FloatingOutputs {
    ids: BTreeMap<String, Ids>,
    /// Whether the hash is that of this derivation only. It leaves out the variables that are named like outputs; where those say what
    /// Nix never writes, another derivation has the same hash and is built in another way.
    hash_counts: bool,
}

#[derive(Clone, Debug)]
struct Ids {
    path: DrvOutput,
    hash: DrvOutput,
    /// The name that the output's path has.
    name: String,
}

impl Ids {
    fn drv_hash(&self) -> String {
        match &self.hash.drv {
            DrvId::Modulo(hash) => hash.hex(),
            DrvId::Resolved(_) => String::new(),
        }
    }
}

impl FloatingOutputs {
    /// Of a derivation with floating outputs. Its ids follow from the derivation; of what the client calls it, only the name counts.
    pub(crate) fn of(drv_path: &StorePath, drv: &BasicDerivation) -> Result<Option<Self>, ModuloError> {
        let name = drv_path.derivation_name().unwrap_or_default();
        if !matches!(drv.kind(), Ok(DerivationKind::Floating)) {
            return Ok(None);
        }
        let path = Derivation::from_basic(drv.clone()).store_path(name)?;
        let ids = |(output, hash): (&str, &_)| {
            let of_output = output_path_name(name, output)?;
            let of = |drv| DrvOutput {
                drv,
                output: output.to_owned(),
            };
            let ids = Ids {
                path: of(DrvId::Resolved(path.clone())),
                hash: of(DrvId::Modulo(*hash)),
                name: of_output,
            };
            Ok((output.to_owned(), ids))
        };
        let hashes = drv.output_hashes(name)?;
        let usual = |output: &String| {
            let value = drv.env.get(output.as_bytes());
            value.is_none_or(|value| *value == placeholder(output).into_bytes())
        };
        Ok(Some(Self {
            ids: hashes.iter().map(ids).collect::<Result<_, ModuloError>>()?,
            hash_counts: drv.outputs.keys().all(usual),
        }))
    }

    /// Whether the realisation can be one of these outputs. The hash of a derivation with floating outputs leaves its name out: a path with
    /// another name is that of another derivation.
    fn fits(&self, realisation: &Realisation) -> bool {
        let ids = self.ids.get(&realisation.id.output);
        ids.is_some_and(|ids| ids.name == realisation.out_path.name())
    }
}

#[cfg(test)]
mod tests {
    use firn_nix::{CaMethod, DerivationOutput, HashAlgo};

    use super::*;

    #[test]
    fn names_tell_derivations_with_the_same_hash_apart() {
        let output = DerivationOutput::Floating {
            method: CaMethod::Nar,
            algo: HashAlgo::Sha256,
        };
        let drv = BasicDerivation {
            outputs: ["out", "dev"]
                .map(|name| (name.to_owned(), output.clone()))
                .into(),
            ..BasicDerivation::default()
        };
        let path =
            |name: &str| StorePath::from_base_name(format!("{}-{name}", "0".repeat(32)).as_bytes()).unwrap();
        let of = |name: &str| FloatingOutputs::of(&path(name), &drv).unwrap().unwrap();
        let (one, two) = (of("one.drv"), of("two.drv"));
        for (output, end) in [("out", ""), ("dev", "-dev")] {
            let id = one.ids[output].hash.clone();
            assert_eq!(id, two.ids[output].hash);
            for (outputs, name) in [(&one, "one"), (&two, "two")] {
                for other in ["one", "two", "one-dev-dev"] {
                    let told = Realisation::unsigned(id.clone(), path(&format!("{other}{end}")));
                    assert_eq!(outputs.fits(&told), name == other, "{name}, {}", told.out_path);
                }
            }
        }
    }
}
