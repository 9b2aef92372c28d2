//! Things to upload and to build.

use std::collections::{BTreeMap, BTreeSet};

use firn_nix::nar::{NarVisitor as _, NarWriter};
use firn_nix::rewrite::{HashModuloSelf, SelfReferences};
use firn_nix::{
    BasicDerivation, CaMethod, ContentAddress, DerivationOutput, Hash, HashAlgo, NarHash, PathInfo, StorePath,
};

/// A store object on its way in.
#[derive(Clone, Debug)]
pub struct Item {
    pub info: PathInfo,
    pub nar: Vec<u8>,
}

/// The archive of one file.
pub fn nar_of_file(text: &str) -> Vec<u8> {
    let mut nar = NarWriter::new(Vec::new());
    nar.regular(false, text.len() as u64).unwrap();
    if !text.is_empty() {
        nar.data(text.as_bytes()).unwrap();
    }
    nar.end_regular().unwrap();
    nar.into_inner()
}

/// A path that says nothing about its content.
pub fn path(name: &str) -> StorePath {
    StorePath::make("output:out", &Hash::sha256(name.as_bytes()), name).unwrap()
}

/// An object without a content address: one file.
pub fn item(path: &StorePath, text: &str, references: &[&StorePath]) -> Item {
    let nar = nar_of_file(text);
    let hash = Hash::sha256(&nar);
    Item {
        info: PathInfo {
            path: path.clone(),
            deriver: None,
            nar_hash: NarHash::new(hash.bytes().try_into().unwrap()),
            references: references.iter().map(|r| (*r).clone()).collect(),
            registration_time: 0,
            nar_size: nar.len() as u64,
            ultimate: false,
            signatures: BTreeSet::new(),
            ca: None,
        },
        nar,
    }
}

/// A text file with a content address, as `.drv` files and `builtins.toFile` have it.
pub fn text_item(name: &str, text: &str, references: &[&StorePath]) -> Item {
    let ca = ContentAddress {
        method: CaMethod::Text,
        hash: Hash::sha256(text.as_bytes()),
    };
    let set = references.iter().map(|r| (*r).clone()).collect();
    let path = StorePath::make_content_addressed(name, &ca, &set, false).unwrap();
    let mut item = item(&path, text, references);
    item.info.ca = Some(ca);
    item
}

/// Where a text says its own path.
pub const ITSELF: &str = "@itself@";

/// A file that says its own path, with a content address in that form.
pub fn self_referring(name: &str, text: &str, form: SelfReferences) -> Item {
    let scratch = path(name);
    let at = |path: &StorePath| item(path, &text.replace(ITSELF, &path.to_string()), &[path]);
    let mut hash = HashModuloSelf::new(HashAlgo::Sha256, &scratch);
    hash.push(&at(&scratch).nar);
    let ca = ContentAddress {
        method: CaMethod::Nar,
        hash: hash.finish().unwrap().of(form),
    };
    let path = StorePath::make_content_addressed(name, &ca, &BTreeSet::new(), true).unwrap();
    let mut item = at(&path);
    item.info.ca = Some(ca);
    item
}

/// A request for a build.
#[derive(Clone, Debug)]
pub struct Drv {
    pub path: StorePath,
    pub drv: BasicDerivation,
}

impl Drv {
    /// A derivation with one output, whose path depends on everything here.
    pub fn new(name: &str, args: &[&str], inputs: &[&StorePath]) -> Self {
        let what = format!("{name} {args:?} {inputs:?}");
        let hash = Hash::sha256(what.as_bytes());
        let out = StorePath::make_output("out", &hash, name).unwrap();
        let drv = BasicDerivation {
            outputs: BTreeMap::from([("out".into(), DerivationOutput::InputAddressed(out.clone()))]),
            input_srcs: inputs.iter().map(|i| (*i).clone()).collect(),
            platform: b"x86_64-linux".to_vec(),
            builder: b"/bin/sh".to_vec(),
            args: args.iter().map(|a| a.as_bytes().to_vec()).collect(),
            env: BTreeMap::from([(b"out".to_vec(), out.to_string().into_bytes())]),
        };
        let path = StorePath::make("text", &hash, &format!("{name}.drv")).unwrap();
        Self { path, drv }
    }

    /// Lets the output refer to inputs.
    pub fn referring(mut self, to: &[&StorePath]) -> Self {
        let list: Vec<String> = to.iter().map(ToString::to_string).collect();
        self.drv
            .env
            .insert(b"references".to_vec(), list.join(" ").into_bytes());
        self
    }

    /// The same build under another name of the derivation.
    pub fn under_another_path(&self) -> Self {
        let path = StorePath::make("text", &Hash::sha256(b"another"), self.path.name()).unwrap();
        Self {
            path,
            drv: self.drv.clone(),
        }
    }

    pub fn out(&self) -> StorePath {
        let name = self.path.derivation_name().unwrap();
        self.drv.outputs["out"].known_path(name, "out").unwrap().unwrap()
    }
}

/// A fixed-output derivation whose path the client leaves empty.
pub fn fixed_without_path(name: &str) -> Drv {
    let ca = ContentAddress {
        method: CaMethod::Flat,
        hash: HashAlgo::Sha256.digest(super::FIXED.as_bytes()),
    };
    let mut drv = Drv::new(name, &[], &[]);
    drv.drv.outputs = BTreeMap::from([("out".into(), DerivationOutput::Fixed { path: None, ca })]);
    drv.drv.env.clear();
    drv
}

/// What a fixed-output derivation of [`super::FIXED`] gives, brought by a client.
pub fn objects_of_fixed(out: &StorePath) -> Item {
    let mut item = item(out, super::FIXED, &[]);
    item.info.ca = Some(ContentAddress {
        method: CaMethod::Flat,
        hash: HashAlgo::Sha256.digest(super::FIXED.as_bytes()),
    });
    item
}
