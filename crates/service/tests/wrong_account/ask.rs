//! How each method is tried, with Bob's names wherever it takes one. The answer as text.

use std::collections::BTreeSet;

use firn_core::Trust;
use firn_nix::rewrite::SelfReferences;
use firn_nix::{CaMethod, HashAlgo};
use firn_protocol::{
    Addressing, BuildMode, BuildOptions, DerivedPath, OutputsSpec, Store as _, StoreError, Upload as _,
};
use firn_service::{Desk, Proposed, SigningKeyRow, Span};
use tokio::sync::mpsc;

use crate::methods::DESK;
use crate::setting::{EVIL, Setting};
use crate::support::{Asked, Drv, TestPorts, bytes, item, key, path};

fn told<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    format!("{:?}", result.map_err(|e| e.message))
}

pub async fn ask(method: &str, setting: &Setting) -> String {
    match method {
        "add" | "add_unsized" | "checkpoint" | "commit" => of_upload(method, setting).await,
        desk if DESK.contains(&desk) => of_desk(method, setting).await,
        _ => of_store(method, setting).await,
    }
}

async fn of_store(method: &str, setting: &Setting) -> String {
    let Setting { client, names, .. } = setting;
    let mut answers = Vec::new();
    match method {
        "query_valid_paths" => {
            for substitute in [false, true] {
                answers.push(told(client.query_valid_paths(names.set(), substitute).await));
            }
        }
        "query_path_infos" => answers.push(told(client.query_path_infos(names.paths()).await)),
        "query_path_from_hash_part" => {
            for path in names.paths() {
                let found = client
                    .query_path_from_hash_part(path.hash_part().to_owned())
                    .await;
                answers.push(told(found));
            }
        }
        "query_all_valid_paths" => answers.push(told(client.query_all_valid_paths().await)),
        "query_referrers" => {
            for path in names.paths() {
                answers.push(told(client.query_referrers(path).await));
            }
        }
        "query_valid_derivers" => {
            for path in names.paths() {
                answers.push(told(client.query_valid_derivers(path).await));
            }
        }
        "query_realisation" => {
            for realisation in &names.realisations {
                let id = realisation.id.clone();
                answers.push(told(client.query_realisation(id).await));
            }
        }
        "register_realisation" => {
            for realisation in &names.realisations {
                answers.push(told(client.register_realisation(realisation.clone()).await));
            }
        }
        "query_closure" => {
            for include_outputs in [false, true] {
                answers.push(told(client.query_closure(names.set(), include_outputs).await));
            }
        }
        "query_derivation_outputs" => {
            for path in names.paths() {
                answers.push(told(client.query_derivation_outputs(path).await));
            }
        }
        "query_missing" => answers.push(told(client.query_missing(targets(setting)).await)),
        "nar_from_path" => {
            for path in names.paths() {
                answers.push(format!(
                    "{:?}",
                    bytes(client, &path)
                        .await
                        .map(|nar| nar.escape_ascii().to_string())
                        .map_err(|e| e.message)
                ));
            }
        }
        "begin_upload" => answers.push(told(client.begin_upload().await.map(drop))),
        "add_to_store" => {
            for references in [BTreeSet::new(), names.set()] {
                let body = &mut &b"text"[..];
                let added =
                    client.add_to_store("t".into(), CaMethod::Text, HashAlgo::Sha256, references, body);
                answers.push(told(added.await.map(|info| info.path)));
            }
        }
        "add_signatures" => {
            for item in [&names.source, &names.referrer, &names.file] {
                let signatures = BTreeSet::from([item.signature(&names.key)]);
                answers.push(told(
                    client.add_signatures(item.info.path.clone(), signatures).await,
                ));
            }
        }
        "ensure_path" => {
            for path in names.paths() {
                answers.push(told(client.ensure_path(path).await));
            }
        }
        "build_derivation" => {
            let other = Drv::new("other", &[], &[&names.referrer.info.path]);
            for drv in [&names.drv, &other] {
                for mode in [BuildMode::Normal, BuildMode::Check] {
                    let (log, mut events) = mpsc::channel(1000);
                    let (path, drv) = (drv.path.clone(), drv.drv.clone());
                    let built = client.build_derivation(path, drv, mode, BuildOptions::default(), log);
                    answers.push(told(built.await));
                    while let Ok(event) = events.try_recv() {
                        answers.push(format!("{event:?}"));
                    }
                }
            }
        }
        "build_paths" => {
            for target in targets(setting) {
                let (log, _events) = mpsc::channel(1000);
                let built = client.build_paths(vec![target], BuildMode::Normal, BuildOptions::default(), log);
                answers.push(told(built.await));
            }
        }
        "meet" => {
            for form in SelfReferences::ALL {
                client.meet(Addressing { form, certain: true });
                answers.push(told(client.query_path_infos(names.paths()).await));
            }
        }
        "remember_misses" => {
            client.remember_misses(std::time::Duration::ZERO);
            answers.push(told(client.ensure_path(names.source.info.path.clone()).await));
        }
        "add_build_log" => {
            let body = &mut &b"log"[..];
            answers.push(told(client.add_build_log(names.drv.path.clone(), body).await));
        }
        other => panic!("say how '{other}' is tried"),
    }
    answers.join("\n")
}

fn targets(setting: &Setting) -> Vec<DerivedPath> {
    let opaque = setting.names.paths().into_iter().map(DerivedPath::Opaque);
    let file = &setting.names.file.info.path;
    let specs = [
        OutputsSpec::All,
        OutputsSpec::Names(BTreeSet::from(["no".to_owned()])),
    ];
    // The last one is an error for whoever has the derivation.
    let built = specs.into_iter().take(1).map(|outputs| DerivedPath::Built {
        drv_path: file.clone(),
        outputs,
    });
    opaque.chain(built).collect()
}

async fn of_upload(method: &str, setting: &Setting) -> String {
    let Setting { client, names, .. } = setting;
    let mut answers = Vec::new();
    match method {
        "add" => {
            // Her own, with a reference to his; and his own hash without his bytes.
            let new = item(&path("new"), "hers", &[&names.source.info.path]);
            let mut upload = client.begin_upload().await.unwrap();
            answers.push(told(upload.add(new.info, &mut &new.nar[..]).await));
            answers.push(told(upload.commit().await));
            for nar in [&[][..], &names.source.nar[..40]] {
                let mut upload = client.begin_upload().await.unwrap();
                let mut nar = nar;
                answers.push(told(upload.add(names.source.info.clone(), &mut nar).await));
                answers.push(told(upload.commit().await));
            }
        }
        "add_unsized" => {
            let new = item(&path("new"), "hers", &[]);
            let mut upload = client.begin_upload().await.unwrap();
            let deriver = Some(names.drv.path.clone());
            let nar = &mut &new.nar[..];
            let mut references = names.set();
            // Its file is valid, this name of it never was.
            references.remove(&names.drv.path);
            let added = upload.add_unsized(path("new"), references, deriver, nar);
            answers.push(told(added.await));
            answers.push(told(upload.commit().await));
        }
        "checkpoint" => {
            // Her own, with a reference to his: it waits for what is not there.
            let new = item(&path("new"), "hers", &[&names.source.info.path]);
            let mut upload = client.begin_upload().await.unwrap();
            upload.add(new.info, &mut &new.nar[..]).await.unwrap();
            answers.push(told(upload.checkpoint().await));
            let asked = client.query_path_infos(vec![path("new")]).await;
            answers.push(told(asked.map(|infos| infos.len())));
        }
        "commit" => {
            // Her bytes under his name: she gets hers.
            let own = item(&names.source.info.path, "hers", &[]);
            let mut upload = client.begin_upload().await.unwrap();
            upload.add(own.info, &mut &own.nar[..]).await.unwrap();
            answers.push(told(upload.commit().await));
            let infos = client
                .query_path_infos(vec![names.source.info.path.clone()])
                .await;
            answers.push(told(infos));
        }
        other => panic!("say how '{other}' is tried"),
    }
    answers.join("\n")
}

/// A new key's bytes are nobody's to foresee.
fn row(row: SigningKeyRow) -> (String, bool) {
    let name = row.public.split_once(':').map(|(name, _)| name.to_owned());
    (name.unwrap_or_default(), row.active)
}

async fn of_desk(method: &str, setting: &Setting) -> String {
    let Setting { names, desk, .. } = setting;
    let desk: &Desk<TestPorts> = desk;
    let fingerprint = names.ssh_key.fingerprint.as_str();
    let mut answers = Vec::new();
    match method {
        "account" => answers.push(format!("{:?}", desk.account())),
        "settings" => {
            for key in [None, Some(fingerprint)] {
                answers.push(told(desk.settings(key).await));
            }
        }
        "set" => {
            answers.push(told(desk.set(Some(fingerprint), "timeout", Some("5")).await));
            answers.push(told(desk.set(None, "timeout", Some("5")).await));
        }
        "trusted_keys" => answers.push(told(desk.trusted_keys().await)),
        "add_trusted_key" => {
            let other = key("some-key", 9).public_key().to_string();
            answers.push(told(desk.add_trusted_key(&other).await));
        }
        "remove_trusted_key" => answers.push(told(desk.remove_trusted_key("bobs-key").await)),
        "substituters" => answers.push(told(desk.substituters().await)),
        "add_substituter" => answers.push(told(desk.add_substituter(EVIL).await)),
        "refresh_substituters" => {
            desk.refresh_substituters();
            answers.push(told(desk.substituters().await));
        }
        "cache_states" => answers.push(format!("{:?}", desk.cache_states())),
        "remove_substituter" => answers.push(told(desk.remove_substituter(names.cache).await)),
        "relations" => answers.push(told(desk.relations().await)),
        "trust" => {
            answers.push(told(desk.trust("carol", Some(Trust::Builds)).await));
            answers.push(told(desk.trust("nobody", None).await));
        }
        "let_read" => {
            answers.push(told(desk.let_read("bob", Some(Trust::Builds)).await));
            answers.push(told(desk.relations().await));
        }
        "logins" => answers.push(told(desk.logins().await)),
        "set_login" => answers.push(told(desk.set_login(names.host, "me", "mine").await)),
        "remove_login" => answers.push(told(desk.remove_login(names.host).await)),
        "signing_keys" => {
            let keys = desk.signing_keys().await;
            answers.push(told(
                keys.map(|keys| keys.into_iter().map(row).collect::<Vec<_>>()),
            ));
        }
        "rotate_signing_key" => answers.push(told(desk.rotate_signing_key().await.map(row))),
        "import_signing_key" => {
            let secret = key("imported", 8).to_secret_text();
            desk.import_signing_key(&secret).await.unwrap();
            let keys = desk.signing_keys().await;
            answers.push(told(
                keys.map(|keys| keys.into_iter().map(row).collect::<Vec<_>>()),
            ));
        }
        "ssh_keys" => answers.push(told(desk.ssh_keys().await)),
        "add_ssh_key" => answers.push(told(desk.add_ssh_key(&names.ssh_key).await)),
        "propose_ssh_key" => {
            let proposed = desk.propose_ssh_key(names.ssh_key.clone(), None).await;
            answers.push(told(proposed.map(|proposed| match proposed {
                Proposed::Acts => "acts".to_owned(),
                // A code is nobody's to foresee.
                Proposed::Code { valid_for, .. } => format!("a code for {valid_for} s"),
            })));
        }
        "remove_ssh_key" => answers.push(told(desk.remove_ssh_key(fingerprint).await)),
        "explain" => {
            for path in names.paths() {
                answers.push(told(desk.explain(&path.to_string()).await));
            }
        }
        "builds" => answers.push(told(desk.builds(u32::MAX).await)),
        "usage" => answers.push(told(desk.usage(Span::ALWAYS).await)),
        "usage_by_day" => {
            setting.world.clock.set(5000);
            answers.push(told(desk.usage_by_day(Span::ALWAYS).await));
        }
        "running" => {
            // His builds run while she asks.
            let waits = Drv::new("waits", &["log:a line\n", "wait"], &[]);
            let bob = setting.world.named("bob").await;
            let mut his = Asked::plain(&setting.world.house.store(bob), &waits);
            setting.world.builder.until(|c| c.waiting == 1).await;
            his.saw("a line").await;
            answers.push(format!("{:?}", desk.running().len()));
            answers.push(told(desk.log("waits").await.map(|log| log.drv_path)));
            setting.world.builder.release(1);
            his.answer().await.done();
        }
        "stop" => {
            // His build goes on without him while she tries.
            let bobs = setting.world.desk("bob").await;
            bobs.set(None, "keep-builds-running", Some("true")).await.unwrap();
            let waits = Drv::new("left", &["log:a line\n", "wait"], &[]);
            let bob = setting.world.named("bob").await;
            let mut his = Asked::plain(&setting.world.house.store(bob), &waits);
            his.saw("a line").await;
            let build = bobs.running()[0].build.unwrap().to_string();
            his.leave().await;
            for wanted in [&build, "left", &waits.path.to_string()] {
                let stopped = desk.stop(wanted).await.map(|stopped| stopped.drv_path);
                answers.push(told(stopped).replace(&build, "NUMBER"));
            }
            setting.world.builder.release(1);
            setting.world.idle().await;
        }
        "log" => {
            let mut wanted: Vec<String> = names.paths().iter().map(ToString::to_string).collect();
            wanted.extend(["thing".into(), "brought-1.0".into(), "brought".into()]);
            for wanted in wanted {
                answers.push(told(
                    desk.log(&wanted).await.map(|log| (log.drv_path, log.source)),
                ));
            }
        }
        "reproducibility" => answers.push(told(desk.reproducibility().await)),
        "explain_build" => {
            for path in names.paths() {
                answers.push(told(desk.explain_build(&path.to_string()).await));
            }
        }
        "compare_contents" => {
            for path in names.paths() {
                answers.push(told(desk.compare_contents(&path.to_string(), None, 10).await));
            }
        }
        "forget" => {
            let paths: Vec<String> = names.paths().iter().map(ToString::to_string).collect();
            answers.push(told(desk.forget(&paths).await));
        }
        other => panic!("say how '{other}' is tried"),
    }
    answers.join("\n")
}
