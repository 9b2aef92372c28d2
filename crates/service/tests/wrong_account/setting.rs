//! Bob, who has things, and Alice, who knows what they are called.

use std::collections::BTreeSet;

use firn_core::Trust;
use firn_nix::StorePath;
use firn_nix::realisation::{DrvOutput, Realisation};
use firn_nix::signature::SecretKey;
use firn_protocol::Store as _;
use firn_service::Desk;
use firn_service::ports::{Login, SshKey};

use crate::support::{
    Client, Drv, Item, TestPorts, World, build, check, entry, item, key, path, text_item, upload,
};

/// How Alice and Bob stand to each other. None of it lets her see anything.
#[derive(Clone, Copy, Debug)]
pub enum Standing {
    Strangers,
    /// He lets her read, and she does not trust him.
    LetsRead,
    /// She trusts him, and he does not let her read.
    Trusted,
    /// Both, but he is private.
    Private,
}

pub struct Setting {
    pub world: World,
    pub client: Client,
    pub desk: Desk<TestPorts>,
    /// Of Bob's, if he has any.
    pub names: Names,
    /// What nobody but Bob may read.
    pub secrets: Vec<String>,
}

pub struct Names {
    pub source: Item,
    pub referrer: Item,
    /// A derivation as a file.
    pub file: Item,
    pub drv: Drv,
    /// What is said of an output whose path follows from its content, and is signed by the key: of that derivation, by hash and by path.
    pub realisations: Vec<Realisation>,
    pub key: SecretKey,
    pub ssh_key: SshKey,
    pub host: &'static str,
    pub cache: &'static str,
}

const CACHE: &str = "https://bobs.example";
/// Alice's, who believes it. It names what Bob has and sends nothing.
pub const EVIL: &str = "https://evil.example";

impl Names {
    fn new() -> Self {
        let key = key("bobs-key", 4);
        let source = item(&path("source"), "bobs secret", &[]).signed(&key);
        let mut referrer = item(&path("referrer"), "bobs other secret", &[&source.info.path]);
        let drv = Drv::new("thing", &[], &[&source.info.path]).referring(&[&source.info.path]);
        let out = drv.out();
        let aterm = format!(
            "Derive([(\"out\",\"{out}\",\"\",\"\")],[],[],\"x86_64-linux\",\"/bin/sh\",[],[(\"out\",\"{out}\")])"
        );
        let file = text_item("thing.drv", &aterm, &[]);
        referrer.info.deriver = Some(file.info.path.clone());
        let ids = [
            format!("sha256:{}!out", "5".repeat(64)).parse().unwrap(),
            DrvOutput::of_path(file.info.path.clone(), "out".to_owned()).unwrap(),
        ];
        let realisations = ids.map(|id| {
            let mut realisation = Realisation::unsigned(id, source.info.path.clone());
            let signature = key.sign(realisation.fingerprint().as_bytes());
            realisation.signatures.insert(signature);
            realisation
        });
        Self {
            realisations: realisations.into(),
            source,
            referrer,
            file,
            drv,
            key,
            ssh_key: SshKey {
                algorithm: "ssh-ed25519".into(),
                blob: b"bobs blob".to_vec(),
                fingerprint: "SHA256:bobs".into(),
                comment: "bobs comment".into(),
                added: 3,
            },
            host: "bobs.example",
            cache: CACHE,
        }
    }

    pub fn paths(&self) -> Vec<StorePath> {
        let items = [&self.source, &self.referrer, &self.file];
        let paths = items.into_iter().map(|item| item.info.path.clone());
        paths.chain([self.drv.out(), self.drv.path.clone()]).collect()
    }

    pub fn set(&self) -> BTreeSet<StorePath> {
        self.paths().into_iter().collect()
    }
}

pub async fn setting(standing: Standing, bob_has: bool) -> Setting {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    world.account("carol").await;
    let desks = [world.desk("alice").await, world.desk("bob").await];
    let [hers, his] = &desks;
    let names = Names::new();
    hers.import_signing_key(&key("alices", 5).to_secret_text())
        .await
        .unwrap();
    match standing {
        Standing::Strangers => {}
        Standing::LetsRead => his.let_read("alice", Some(Trust::Uploads)).await.unwrap(),
        Standing::Trusted => hers.trust("bob", Some(Trust::Uploads)).await.unwrap(),
        Standing::Private => {
            his.set(None, "private", Some("true")).await.unwrap();
            hers.trust("bob", Some(Trust::Uploads)).await.unwrap();
            his.let_read("alice", Some(Trust::Uploads)).await.unwrap();
        }
    }
    hers.add_substituter(EVIL).await.unwrap();
    let evils = key("evils-key", 6);
    hers.add_trusted_key(&evils.public_key().to_string())
        .await
        .unwrap();
    if let Standing::Private = standing {
        // His signature is a fact that he keeps for himself.
        hers.add_trusted_key(&names.key.public_key().to_string())
            .await
            .unwrap();
    }
    world.caches.script(EVIL, |script| {
        for item in [&names.source, &names.referrer] {
            let mut entry = entry(item, &[&evils]);
            entry.url = "nar/nowhere".into();
            script.entries.insert(item.info.path.clone(), entry);
        }
    });
    let mut secrets = Vec::new();
    if bob_has {
        world.clock.set(4321);
        upload(&bob, &[&names.source, &names.referrer, &names.file])
            .await
            .unwrap();
        assert!(build(&bob, &names.drv).await.done().status.is_success());
        for realisation in &names.realisations {
            bob.register_realisation(realisation.clone()).await.unwrap();
            secrets.extend(realisation.signatures.iter().map(ToString::to_string));
        }
        bob.add_build_log(path("brought-1.0.drv"), &mut &b"bobs log"[..])
            .await
            .unwrap();
        // Something of his that is not reproducible.
        let chance = Drv::new("chance", &["random"], &[]);
        build(&bob, &chance).await.done();
        check(&bob, &chance).await.done();
        world.clock.set(0);
        let out = bob
            .query_path_infos(vec![names.drv.out()])
            .await
            .unwrap()
            .remove(0);
        world.add_ssh_key("bob", &names.ssh_key).await;
        his.set(Some(&names.ssh_key.fingerprint), "timeout", Some("77"))
            .await
            .unwrap();
        his.set(None, "max-silent-time", Some("88")).await.unwrap();
        his.add_substituter(CACHE).await.unwrap();
        his.add_trusted_key(&names.key.public_key().to_string())
            .await
            .unwrap();
        his.set_login("bobs.example", "bobs-user", "bobs-password")
            .await
            .unwrap();
        his.import_signing_key(&key("bobs-signing", 7).to_secret_text())
            .await
            .unwrap();
        his.trust("carol", Some(Trust::Builds)).await.unwrap();
        world.caches.script(CACHE, |script| {
            script.login = Some(Login {
                user: "bobs-user".into(),
                password: "bobs-password".into(),
            });
        });
        secrets.extend([
            "bobs secret".into(),
            "bobs other secret".into(),
            "bobs-user".into(),
            "bobs-password".into(),
            "bobs-signing".into(),
            "bobs comment".into(),
            "carol".into(),
            "4321".into(),
            out.nar_hash.to_string(),
            names.source.signature(&names.key),
        ]);
    }
    let [desk, _] = desks;
    Setting {
        world,
        client: alice,
        desk,
        names,
        secrets,
    }
}

impl Setting {
    pub async fn of_the_owner(mut self) -> Self {
        self.client = self.world.house.store(self.world.named("bob").await);
        self.desk = self.world.desk("bob").await;
        self
    }
}
