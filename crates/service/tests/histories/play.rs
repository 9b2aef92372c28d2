//! A history on the real service.

use std::collections::BTreeSet;

use firn_core::AccountName;
use firn_nix::{PathInfo, StorePath};
use firn_protocol::{Store as _, StoreError};
use firn_service::Explanation;
use firn_service::ports::{Accounts as _, Login};

use crate::model::deeds::{signatures, wrong_signature};
use crate::model::{Answer, Thing};
use crate::operations::{Brought, Deed, Lie, Step, Weather};
use crate::support::{Client, Item, World, build, bytes, entry, upload};
use crate::universe::{CACHES, CLOSED, LOGIN, NAMES, universe};

pub struct Play {
    pub world: World,
    pub clients: Vec<Client>,
}

/// All that an account can ask for at one moment without naming what it does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    pub infos: Vec<PathInfo>,
    pub listed: BTreeSet<StorePath>,
}

impl Play {
    pub async fn begin() -> Self {
        // That a failure is answered with an earlier one is tested apart; here every request stands for itself.
        let world = World::with(|s| s.defaults.reuse_build_failures = false);
        let mut play = Self {
            world,
            clients: Vec::new(),
        };
        for (n, cache) in CACHES.iter().enumerate() {
            play.world.caches.script(cache, |script| {
                script.login = (n == CLOSED).then(|| Login {
                    user: LOGIN.1.into(),
                    password: LOGIN.2.into(),
                });
            });
        }
        for n in 0..NAMES.len() {
            let client = play.newcomer(n).await;
            play.clients.push(client);
        }
        play
    }

    async fn newcomer(&self, n: usize) -> Client {
        let client = self.world.account(NAMES[n]).await;
        let secret = universe().signing[n].to_secret_text();
        self.world
            .desk(NAMES[n])
            .await
            .import_signing_key(&secret)
            .await
            .unwrap();
        client
    }

    /// Does it, and says how it went.
    pub async fn step(&mut self, step: &Step, time: u64) -> (Answer, Option<String>) {
        self.world.clock.set(time);
        match step {
            Step::Cache(cache, weather) => {
                self.weather(*cache, weather);
                (Answer::default(), None)
            }
            Step::Account(account, deed) => self.deed(*account, deed).await,
        }
    }

    fn weather(&self, cache: usize, weather: &Weather) {
        self.world.caches.script(CACHES[cache], |script| match weather {
            Weather::Down(down) => script.down = *down,
            Weather::Priority(priority) => script.priority = *priority,
            Weather::Lost { path } => drop(script.entries.remove(&universe().paths[*path])),
            Weather::Has { what, bytes } => {
                let item = &universe().items[what.path][what.variant];
                let mut info = entry(item, &[]);
                let all = signatures(what);
                info.signatures = all.iter().map(|s| s.text.parse().unwrap()).collect();
                info.url = format!("nar/{}", what.path);
                let mut nar = item.nar.clone();
                if what.lie == Lie::Bytes {
                    spoil(&mut nar);
                }
                match bytes {
                    true => drop(script.nars.insert(info.url.clone(), nar)),
                    false => drop(script.nars.remove(&info.url)),
                }
                script.entries.insert(info.path.clone(), info);
            }
        });
    }

    async fn deed(&mut self, account: usize, deed: &Deed) -> (Answer, Option<String>) {
        let client = self.clients[account].clone();
        let desk = self.world.desk(NAMES[account]).await;
        let mut answer = Answer::default();
        let on_off = |on: &bool| if *on { "true" } else { "false" };
        let result: Result<(), StoreError> = match deed {
            Deed::Upload(batch) => {
                let items: Vec<Item> = batch.iter().map(brought).collect();
                upload(&client, &items.iter().collect::<Vec<_>>()).await
            }
            Deed::Sign { path, key, wrong } => self.sign(&client, *path, *key, *wrong).await,
            Deed::Keys(keys) => {
                let keys = keys
                    .iter()
                    .map(|key| universe().keys[*key].public_key().to_string());
                let keys: Vec<String> = keys.collect();
                desk.set(None, "trusted-public-keys", Some(&keys.join(" "))).await
            }
            Deed::Trust { other, level } => desk.trust(NAMES[*other], *level).await,
            Deed::LetRead { other, level } => desk.let_read(NAMES[*other], *level).await,
            Deed::Private(on) => desk.set(None, "private", Some(on_off(on))).await,
            Deed::Share(on) => desk.set(None, "share-builds", Some(on_off(on))).await,
            Deed::Caches(caches) => {
                let urls: Vec<&str> = caches.iter().map(|cache| CACHES[*cache]).collect();
                desk.set(None, "substituters", Some(&urls.join(" "))).await
            }
            Deed::Login(true) => desk.set_login(LOGIN.0, LOGIN.1, LOGIN.2).await,
            Deed::Login(false) => desk.remove_login(LOGIN.0).await,
            Deed::Fetch { path } => client.ensure_path(universe().paths[*path].clone()).await,
            Deed::Build { derivation } => self.build(account, *derivation, &mut answer).await,
            Deed::Forget(paths) => {
                let paths: Vec<String> = paths.iter().map(|p| universe().paths[*p].to_string()).collect();
                desk.forget(&paths).await.map(|count| answer.count = count)
            }
            Deed::Remove => {
                let name = AccountName::parse(NAMES[account]).unwrap();
                self.world.db.remove_account(&name).await.unwrap();
                // Who was logged in meanwhile is told.
                let text = client.query_all_valid_paths().await.unwrap_err().message;
                assert!(text.contains("does not exist any more"), "{text}");
                self.clients[account] = self.newcomer(account).await;
                Ok(())
            }
        };
        answer.refused = result.is_err();
        (answer, result.err().map(|e| e.message))
    }

    async fn sign(&self, client: &Client, path: usize, key: usize, wrong: bool) -> Result<(), StoreError> {
        let path = &universe().paths[path];
        let infos = client.query_path_infos(vec![path.clone()]).await.unwrap();
        let fingerprint = infos.first().map(PathInfo::fingerprint).unwrap_or_default();
        let text = match wrong {
            true => wrong_signature(key).text,
            false => universe().sign(key, &fingerprint),
        };
        client.add_signatures(path.clone(), BTreeSet::from([text])).await
    }

    async fn build(&self, account: usize, derivation: usize, answer: &mut Answer) -> Result<(), StoreError> {
        let client = &self.clients[account];
        let drv = &universe().derivations[derivation];
        let before = self.world.builder.counts().started;
        let result = build(client, drv).await.result?;
        answer.ran = self.world.builder.counts().started > before;
        answer.rung = self.world.requests(NAMES[account]).await.last().unwrap().rung;
        if !result.status.is_success() {
            let text = result.error_msg.escape_ascii().to_string();
            return Err(StoreError::new(format!("{:?} {text}", result.status)));
        }
        if answer.ran {
            let infos = client.query_path_infos(vec![drv.out()]).await?;
            let info = infos.into_iter().next();
            answer.made = info.map(|info| Thing {
                path: info.path,
                content: info.nar_hash,
                size: info.nar_size,
                references: info.references,
                ca: info.ca.map(|ca| ca.to_string()),
            });
        }
        Ok(())
    }

    pub async fn look(&self, account: usize) -> Looked {
        let client = &self.clients[account];
        Looked {
            infos: client.query_path_infos(universe().paths.clone()).await.unwrap(),
            listed: client.query_all_valid_paths().await.unwrap(),
        }
    }

    pub async fn nar(&self, account: usize, path: &StorePath) -> Result<Vec<u8>, String> {
        bytes(&self.clients[account], path).await.map_err(|e| e.message)
    }

    pub async fn explain(&self, account: usize, path: &StorePath) -> Explanation {
        let desk = self.world.desk(NAMES[account]).await;
        desk.explain(&path.to_string()).await.unwrap()
    }

    /// Contents of some paths, copied from another service.
    pub async fn copy_content(&self, from: &World, thing: &firn_core::Object) {
        if self.world.content.contains(&thing.content) {
            return;
        }
        let mut nar = from.content.read_nar(&thing.content).await.unwrap();
        let options = firn_content::IngestOptions {
            expected_size: Some(thing.nar_size),
            expected_hash: Some(thing.content),
            max_size: 1 << 20,
        };
        let staged = self.world.content.ingest(&mut nar, options, None).await.unwrap();
        self.world.content.publish([staged]).await.unwrap();
        self.world.content.sync([]).await.unwrap();
    }
}

fn spoil(nar: &mut [u8]) {
    // Within the file's text.
    let at = nar.len() - 20;
    nar[at] ^= 1;
}

fn brought(what: &Brought) -> Item {
    let mut item = universe().items[what.path][what.variant].clone();
    item.info.signatures = signatures(what).into_iter().map(|s| s.text).collect();
    if what.lie == Lie::Bytes {
        spoil(&mut item.nar);
    }
    item
}
