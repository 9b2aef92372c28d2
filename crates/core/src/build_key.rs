//! The build key: equal keys mean that two sandboxes could not tell their builds apart.
//!
//! SHA-256 over a length-prefixed encoding. Everything that reaches a build and can differ between two requests is in it; what the
//! client happened to list as inputs is not, because the sandbox mounts the whole closure and nothing else.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use firn_nix::rewrite::SelfReferences;
use firn_nix::{BasicDerivation, DerivationOutput, NarHash, StorePath};
use sha2::{Digest as _, Sha256};

use crate::Object;

/// Changes whenever the encoding does.
const FORMAT: &[u8] = b"firn-build-key-1";

/// Begins the keys of builds with [`SelfReferences::Unplaced`].
const UNPLACED_FORMAT: &[u8] = b"firn-build-key-1-unplaced";

/// Changes whenever the encoding of derivations alone does.
const DERIVATION_FORMAT: &[u8] = b"firn-derivation-1";

/// Digest that names a build up to what its sandbox can see.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BuildKey(pub [u8; 32]);

/// 64 hexadecimal digits.
impl fmt::Display for BuildKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for BuildKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a sandbox looks like apart from derivation and inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentClass {
    /// `x86_64-linux` and the like.
    pub system: String,
    /// Kind of sandbox and version of what it shows to a build.
    pub sandbox: String,
    /// Contents of the files that every sandbox gets besides its inputs (`/bin/sh`), by path.
    pub extra: BTreeMap<String, NarHash>,
    /// What `NIX_BUILD_CORES` says.
    pub cores: u32,
}

/// The whole input closure of a build with the content that the requester's view has for each path. Sorted by path, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputMapping(Vec<Arc<Object>>);

impl InputMapping {
    /// From the objects of a closure. Of two with one path the first counts.
    #[must_use]
    pub fn new<O: Into<Arc<Object>>>(objects: impl IntoIterator<Item = O>) -> Self {
        let mut objects: Vec<Arc<Object>> = objects.into_iter().map(Into::into).collect();
        objects.sort_by(|a, b| a.path.cmp(&b.path));
        objects.dedup_by(|later, first| later.path == first.path);
        Self(objects)
    }

    /// The objects, sorted by path.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.0.iter().map(Arc::as_ref)
    }

    /// Number of paths.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the build has no inputs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl BuildKey {
    /// Digest of a derivation, its input mapping and the environment class.
    ///
    /// Of each input the content is hashed, and besides it what `exportReferencesGraph` shows a build: references and content address.
    ///
    /// `name` is the derivation's, without `.drv`. It is in the paths of outputs. A floating output has none yet: there the scratch path
    /// counts, which the build sees instead, and in which the name is.
    #[must_use]
    pub fn new(name: &str, drv: &BasicDerivation, inputs: &InputMapping, class: &EnvironmentClass) -> Self {
        let mut e = Encoder::default();
        e.bytes(FORMAT);
        e.bytes(class.system.as_bytes());
        e.bytes(class.sandbox.as_bytes());
        e.count(class.extra.len());
        for (path, content) in &class.extra {
            e.bytes(path.as_bytes());
            e.bytes(content.bytes());
        }
        e.bytes(&class.cores.to_le_bytes());

        // Names that cannot be part of a path have no scratch paths, and no builds.
        let scratch = drv.scratch_paths(name).unwrap_or_default();
        e.derivation(drv, &scratch);

        e.count(inputs.len());
        for object in inputs.objects() {
            e.bytes(object.path.base_name().as_bytes());
            e.bytes(object.content.bytes());
            e.count(object.references.len());
            object
                .references
                .iter()
                .for_each(|r| e.bytes(r.base_name().as_bytes()));
            e.bytes(object.ca.map(|ca| ca.to_string()).unwrap_or_default().as_bytes());
        }
        Self(e.digest())
    }

    /// The key of the same build where the paths of its outputs follow from hashes in that form. Only for floating outputs: no other
    /// paths depend on it.
    #[must_use]
    pub fn in_form(self, form: SelfReferences) -> Self {
        match form {
            SelfReferences::Placed => self,
            SelfReferences::Unplaced => {
                let mut e = Encoder::default();
                e.bytes(UNPLACED_FORMAT);
                e.bytes(&self.0);
                Self(e.digest())
            }
        }
    }
}

/// Digest of a derivation without its inputs, as a sandbox sees it: what two build keys have in common that differ in inputs only.
#[must_use]
pub fn derivation_digest(drv: &BasicDerivation) -> [u8; 32] {
    let mut e = Encoder::default();
    e.bytes(DERIVATION_FORMAT);
    e.derivation(drv, &BTreeMap::new());
    e.digest()
}

/// Length-prefixed, so that no two different inputs give the same bytes. Hashed in one go: thousands of small pieces cost more one by one.
#[derive(Default)]
struct Encoder(Vec<u8>);

impl Encoder {
    fn digest(self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }

    fn count(&mut self, n: usize) {
        self.0.extend((n as u64).to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend(bytes);
    }

    fn derivation(&mut self, drv: &BasicDerivation, scratch: &BTreeMap<String, StorePath>) {
        self.count(drv.outputs.len());
        for (name, output) in &drv.outputs {
            self.bytes(name.as_bytes());
            self.output(output, scratch.get(name));
        }
        self.bytes(&drv.platform);
        self.bytes(&drv.builder);
        self.count(drv.args.len());
        drv.args.iter().for_each(|arg| self.bytes(arg));
        self.count(drv.env.len());
        for (name, value) in &drv.env {
            self.bytes(name);
            self.bytes(value);
        }
    }

    fn output(&mut self, output: &DerivationOutput, scratch: Option<&StorePath>) {
        let (tag, path, how) = match output {
            DerivationOutput::InputAddressed(path) => ("input-addressed", Some(path), String::new()),
            DerivationOutput::Fixed { path, ca } => ("fixed", path.as_ref(), ca.to_string()),
            DerivationOutput::Floating { method, algo } => {
                ("floating", scratch, format!("{}{}", method.prefix(), algo.name()))
            }
            DerivationOutput::Deferred => ("deferred", None, String::new()),
            DerivationOutput::Impure { method, algo } => {
                ("impure", None, format!("{}{}", method.prefix(), algo.name()))
            }
        };
        self.bytes(tag.as_bytes());
        self.bytes(path.map(StorePath::base_name).unwrap_or_default().as_bytes());
        self.bytes(how.as_bytes());
    }
}
