//! The attempts of a fixed-output build, which has a network.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use firn_attack::{Column, Need};
use firn_builder::FixedOutputs;
use firn_nix::{CaMethod, ContentAddress, Derivation, DerivationOutput, HashAlgo, StorePath};
use firn_service::ports::RunFailure;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::backend::{Attack, Backend};
use super::local::Local;
use super::outside::Outside;
use super::probes;
use crate::Firn;

/// Root's namespaces, with every derivation made one of a fixed output. Its hash is never right: what it would be told in is the log.
struct Fixed(Local);

impl Backend for Fixed {
    fn column(&self) -> Column {
        Column::Fixed
    }

    fn limits(&self, what: Need) -> bool {
        self.0.limits(what)
    }

    fn outside(&self) -> &Outside {
        self.0.outside()
    }

    async fn run(
        &self,
        attack: &Attack,
        log: mpsc::Sender<Bytes>,
        cancel: CancellationToken,
    ) -> Result<BTreeMap<String, PathBuf>, RunFailure> {
        let (path, mut drv) = attack.derivation(self.outside());
        fix(&path, &mut drv);
        self.0.build(attack, &path, &drv, log, cancel).await
    }

    fn left(&self) -> Vec<String> {
        self.0.left()
    }

    fn exposed(&self) -> Vec<String> {
        self.0.exposed()
    }
}

fn fix(drv_path: &StorePath, drv: &mut Derivation) {
    let ca = ContentAddress {
        method: CaMethod::Flat,
        hash: HashAlgo::Sha256.digest(b"something else"),
    };
    let mut output = DerivationOutput::Fixed { path: None, ca };
    let name = drv_path.derivation_name().unwrap();
    let known = output.known_path(name, "out").unwrap().unwrap();
    drv.basic.env.insert(b"out".to_vec(), known.to_string().into());
    if let DerivationOutput::Fixed { path, .. } = &mut output {
        *path = Some(known);
    }
    drv.basic.outputs.insert("out".into(), output);
}

#[tokio::test]
async fn as_a_fixed_output() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    if let Err(why) = firn_sandbox::probe::can_relay() {
        println!("skipped: {why}");
        return;
    }
    let firn = Firn::new().changed(|config| {
        config.fixed = FixedOutputs {
            network: Ok(Vec::new()),
            ..FixedOutputs::without_network("")
        };
    });
    let backend = Fixed(Local::new(firn, Column::Root).await);
    let attack = Attack::new(&["probe-all"]);
    let ended = tokio::select! {
        ended = attack.run(&backend) => ended,
        never = backend.outside().stir() => match never {},
    };
    let report = String::from_utf8(ended.log).unwrap();
    assert!(
        matches!(&ended.result, Err(RunFailure::OutputRejected(text)) if text.contains("hash mismatch")),
        "{:?}\n{report}",
        ended.result
    );
    probes::check_report(&backend, &report);
    assert_eq!(backend.outside().touched(), Vec::<&str>::new());
    assert_eq!(backend.left(), Vec::<String>::new());
}
