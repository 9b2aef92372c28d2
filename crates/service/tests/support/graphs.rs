//! Derivations with their graphs, as clients send them to a remote store.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use firn_nix::derivation::Modulo;
use firn_nix::{CaMethod, ContentAddress, Derivation, DerivationOutput, HashAlgo, StorePath};
use firn_protocol::{
    BuildMode, BuildOptions, BuildResult, DerivedPath, LogEvent, OutputsSpec, Store as _, StoreError,
};
use tokio::sync::mpsc;

use super::{Client, FIXED, Item, path, text_item, upload};

/// One derivation and its `.drv` file.
#[derive(Clone, Debug)]
pub struct Package {
    pub drv: Derivation,
    pub item: Item,
}

impl Package {
    pub fn path(&self) -> StorePath {
        self.item.info.path.clone()
    }

    pub fn output(&self, name: &str) -> StorePath {
        self.drv.basic.outputs[name].path().unwrap().clone()
    }

    pub fn out(&self) -> StorePath {
        self.output("out")
    }

    pub fn target(&self) -> DerivedPath {
        DerivedPath::Built {
            drv_path: self.path(),
            outputs: OutputsSpec::All,
        }
    }
}

/// Derivations that know each other.
#[derive(Default)]
pub struct Packages {
    known: HashMap<StorePath, Arc<Derivation>>,
    modulo: Modulo,
}

impl Packages {
    /// A package with the output `out`, built from others.
    pub fn add(&mut self, name: &str, args: &[&str], inputs: &[&Package], sources: &[&StorePath]) -> Package {
        self.with_outputs(name, &["out"], args, inputs, sources)
    }

    /// A package whose output refers to those that it is built from.
    pub fn referring(&mut self, name: &str, inputs: &[&Package]) -> Package {
        let list: Vec<String> = inputs.iter().map(|p| p.out().to_string()).collect();
        let references = (b"references".to_vec(), list.join(" ").into_bytes());
        self.package(name, &["out"], &[], inputs, &[], Some(references))
    }

    /// A package with a variable more in its environment.
    pub fn with_variable(
        &mut self,
        name: &str,
        sources: &[&StorePath],
        variable: Option<(Vec<u8>, Vec<u8>)>,
    ) -> Package {
        self.package(name, &["out"], &[], &[], sources, variable)
    }

    pub fn with_outputs(
        &mut self,
        name: &str,
        outputs: &[&str],
        args: &[&str],
        inputs: &[&Package],
        sources: &[&StorePath],
    ) -> Package {
        self.package(name, outputs, args, inputs, sources, None)
    }

    fn package(
        &mut self,
        name: &str,
        outputs: &[&str],
        args: &[&str],
        inputs: &[&Package],
        sources: &[&StorePath],
        variable: Option<(Vec<u8>, Vec<u8>)>,
    ) -> Package {
        let open = |output: &&str| ((*output).to_owned(), DerivationOutput::Deferred);
        let mut drv = Derivation::default();
        drv.basic.outputs = outputs.iter().map(open).collect();
        drv.basic.input_srcs = sources.iter().map(|s| (*s).clone()).collect();
        drv.basic.platform = b"x86_64-linux".to_vec();
        drv.basic.builder = b"/bin/sh".to_vec();
        drv.basic.args = args.iter().map(|a| a.as_bytes().to_vec()).collect();
        drv.basic.env = outputs
            .iter()
            .map(|o| (o.as_bytes().to_vec(), Vec::new()))
            .collect();
        drv.basic.env.extend(variable);
        for input in inputs {
            let names = input.drv.basic.outputs.keys().cloned().collect();
            drv.input_drvs.insert(input.path(), names);
        }
        let known = &self.known;
        let paths = self
            .modulo
            .output_paths(&drv, name, |p| known.get(p).cloned())
            .unwrap();
        for (output, path) in paths {
            let path = path.unwrap();
            drv.basic
                .env
                .insert(output.clone().into_bytes(), path.to_string().into_bytes());
            drv.basic
                .outputs
                .insert(output, DerivationOutput::InputAddressed(path));
        }
        self.finish(name, drv)
    }

    /// A package whose content is known beforehand: [`FIXED`].
    pub fn fixed(&mut self, name: &str, args: &[&str]) -> Package {
        self.fixed_to(FIXED, name, args, &[])
    }

    /// A package that is a file with this text, whatever it is built from.
    pub fn fixed_to(&mut self, text: &str, name: &str, args: &[&str], inputs: &[&Package]) -> Package {
        self.fixed_by(HashAlgo::Sha256, text, name, args, inputs)
    }

    pub fn fixed_by(
        &mut self,
        algorithm: HashAlgo,
        text: &str,
        name: &str,
        args: &[&str],
        inputs: &[&Package],
    ) -> Package {
        let ca = ContentAddress {
            method: CaMethod::Flat,
            hash: algorithm.digest(text.as_bytes()),
        };
        let out = StorePath::make_content_addressed(name, &ca, &BTreeSet::new(), false).unwrap();
        let mut drv = Derivation::default();
        drv.basic.env = BTreeMap::from([(b"out".to_vec(), out.to_string().into_bytes())]);
        drv.basic.outputs = BTreeMap::from([("out".into(), DerivationOutput::Fixed { path: Some(out), ca })]);
        drv.basic.platform = b"x86_64-linux".to_vec();
        drv.basic.builder = b"/bin/sh".to_vec();
        drv.basic.args = args.iter().map(|a| a.as_bytes().to_vec()).collect();
        drv.input_drvs = inputs
            .iter()
            .map(|i| (i.path(), ["out".to_owned()].into()))
            .collect();
        self.finish(name, drv)
    }

    /// A `.drv` with this text, right or wrong.
    pub fn finish(&mut self, name: &str, drv: Derivation) -> Package {
        let references: Vec<&StorePath> = drv.input_drvs.keys().chain(&drv.basic.input_srcs).collect();
        let text = String::from_utf8(drv.to_aterm()).unwrap();
        let item = text_item(&format!("{name}.drv"), &text, &references);
        self.known.insert(item.info.path.clone(), Arc::new(drv.clone()));
        Package { drv, item }
    }
}

/// A source: a text with a content address.
pub fn source(name: &str, text: &str) -> Item {
    text_item(name, text, &[])
}

/// Something uploaded that nobody can check.
pub fn unchecked(name: &str) -> StorePath {
    path(name)
}

/// Sends derivations in this order, inputs first.
pub async fn send(client: &Client, packages: &[&Package]) {
    let items: Vec<&Item> = packages.iter().map(|p| &p.item).collect();
    upload(client, &items).await.unwrap();
}

/// Builds targets; what the client saw, too.
pub async fn realise(
    client: &Client,
    targets: &[DerivedPath],
    mode: BuildMode,
) -> (Result<Vec<BuildResult>, StoreError>, Vec<LogEvent>) {
    let (log, mut events) = mpsc::channel(1);
    let collect = async {
        let mut seen = Vec::new();
        while let Some(event) = events.recv().await {
            seen.push(event);
        }
        seen
    };
    let request = client.build_paths(targets.to_vec(), mode, BuildOptions::default(), log);
    super::soon(async { tokio::join!(request, collect) }).await
}

/// Builds these packages with all their outputs.
pub async fn build_all(client: &Client, packages: &[&Package]) -> Vec<BuildResult> {
    let targets: Vec<DerivedPath> = packages.iter().map(|p| p.target()).collect();
    realise(client, &targets, BuildMode::Normal).await.0.unwrap()
}

/// The text of a failure.
pub fn told(result: &BuildResult) -> String {
    String::from_utf8(result.error_msg.clone()).unwrap()
}
