//! What an account decides about itself, and what it may know: the operations behind `shell`, `api` and the operator's commands.

use std::collections::BTreeSet;
use std::sync::Arc;

use firn_core::{
    AccountName, CacheUrl, ChangeError, Definition, Effective, Layer, Level, SETTINGS, SettingChange,
    SettingError, Trust, layered,
};
use firn_nix::signature::{PublicKey, SecretKey};
use firn_nix::{StorePath, excerpt};
use firn_protocol::StoreError;

use crate::ports::{
    Account, AccountChange, Accounts as _, Builds as _, DatabaseError, KeyFor, Login, NewSigningKey,
    Policies as _, Ports, Relation, RequestRecord, SigningKey, SshKey, Stored, Views as _,
};
use crate::resolve::{MAX_CLOSURE, failed};
use crate::substituters::AddedCache;
use crate::terms::layer;
use crate::{House, signing};

/// Longest part of a login, in bytes.
const MAX_LOGIN: usize = 4096;

/// One account's desk. No method takes an account to act for: nobody decides for another one.
pub struct Desk<P: Ports> {
    pub(crate) house: Arc<House<P>>,
    pub(crate) account: Account,
    /// Whether the operator sits at it.
    pub(crate) operator: bool,
}

/// A setting as it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingRow {
    /// Its name.
    pub name: &'static str,
    /// Its value, in text form.
    pub value: String,
    /// Where the value comes from.
    pub level: Level,
    /// What it is for.
    pub about: &'static str,
}

/// A public key of the account's own, whose secret half signs for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKeyRow {
    /// `name:base64`.
    pub public: String,
    /// Since when, in seconds since 1970.
    pub created: u64,
    /// Whether it signs what comes.
    pub active: bool,
}

/// Why the account's view has a path, or has it not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The path.
    pub path: StorePath,
    /// Whether it is valid for the account.
    pub valid: bool,
    /// What its policy admits, the best first.
    pub candidates: Vec<ExplainedCandidate>,
    /// What the account's binary caches say of a path that is not valid, in sentences.
    pub caches: Vec<String>,
}

/// One candidate for a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedCandidate {
    /// `sha256:…` of the NAR.
    pub content: String,
    /// Bytes of the NAR.
    pub nar_size: u64,
    /// The reason, in words: "signed by the key 'cache.nixos.org-1'".
    pub why: String,
    /// Whether it is what the view has.
    pub chosen: bool,
    /// References that are not valid for the account, and keep it from being so.
    pub missing: BTreeSet<StorePath>,
}

/// Errors that are the asker's doing are told as they are; others are the service's own.
fn told(error: DatabaseError) -> StoreError {
    match error {
        e @ (DatabaseError::NoKey { .. }
        | DatabaseError::KeyTaken
        | DatabaseError::TooManyKeys
        | DatabaseError::Change(_)
        | DatabaseError::TooMany { .. }
        | DatabaseError::NoAccount(_)) => StoreError::new(e.to_string()),
        e => failed(e),
    }
}

fn refused(why: impl Into<String>) -> StoreError {
    StoreError::new(why)
}

impl<P: Ports> Desk<P> {
    /// Whose desk it is.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.account
    }

    async fn stored(&self, ssh_key: Option<&str>) -> Result<Stored, StoreError> {
        self.house.db.stored(self.account.id, ssh_key).await.map_err(told)
    }

    /// Every setting as it holds for the account, or for one of its SSH keys.
    ///
    /// # Errors
    /// When the account has no such key.
    pub async fn settings(&self, ssh_key: Option<&str>) -> Result<Vec<SettingRow>, StoreError> {
        if let Some(fingerprint) = ssh_key {
            self.ssh_key(fingerprint).await?;
        }
        let stored = self.stored(ssh_key).await?;
        let account = layer(Level::Account, &stored.account);
        let key = layer(Level::Key, &stored.key);
        let effective = layered(self.house.settings.defaults.clone(), [&account, &key]);
        let level = |d: &Definition| match (key.get(d.name), account.get(d.name)) {
            (Some(_), _) => Level::Key,
            (None, Some(_)) => Level::Account.min(d.up_to),
            (None, None) => Level::System,
        };
        Ok(SETTINGS
            .iter()
            .map(|d| SettingRow {
                name: d.name,
                value: effective.shown(d.name),
                level: level(d),
                about: d.about,
            })
            .collect())
    }

    /// Sets a setting of the account or of one of its SSH keys; `None` unsets it. It holds for every session at once.
    ///
    /// # Errors
    /// A wrong name (the nearest is named), value or level; no such key.
    pub async fn set(
        &self,
        ssh_key: Option<&str>,
        name: &str,
        value: Option<&str>,
    ) -> Result<(), StoreError> {
        let definition = firn_core::definition(name).map_err(|e| refused(e.to_string()))?;
        let level = if ssh_key.is_some() {
            Level::Key
        } else if self.operator {
            Level::Operator
        } else {
            Level::Account
        };
        if level > definition.up_to {
            let name = definition.name;
            return Err(refused(SettingError::Level { name, level }.to_string()));
        }
        let mut one = Layer::default();
        if let Some(value) = value {
            one.set(level, definition.name, value)
                .map_err(|e| refused(e.to_string()))?;
            let nothing = Effective {
                trusted_public_keys: Vec::new(),
                ..Effective::default()
            };
            let set = layered(nothing, [&one]);
            let wanted = set.sandbox.filter(|_| definition.name == "sandbox");
            if let Some(why) = wanted.and_then(|wanted| self.house.not_offered(wanted)) {
                return Err(refused(why));
            }
            for key in set.trusted_public_keys {
                self.make_known(&key).await?;
            }
        }
        match ssh_key {
            Some(fingerprint) => {
                let db = &self.house.db;
                let set = db.set_key(self.account.id, fingerprint, definition.name, value);
                set.await.map_err(told)?;
            }
            None => {
                let (name, value) = (definition.name, value.map(str::to_owned));
                self.change(SettingChange::Set { name, value }).await?;
            }
        }
        let changed = self.house.setting_changed(self.account.id, definition.name);
        changed.await.map_err(told)
    }

    /// Signatures that came before the key must count when it is trusted. They are checked before anything is locked.
    async fn make_known(&self, key: &PublicKey) -> Result<(), StoreError> {
        let known = self.house.register(KeyFor::Account(self.account.id), key);
        known.await.map(drop).map_err(told)
    }

    async fn change(&self, change: SettingChange) -> Result<(), StoreError> {
        let defaults = self.house.settings.defaults.clone();
        let change = AccountChange { defaults, change };
        let changed = self.house.db.change_account(self.account.id, &change);
        changed.await.map_err(told)
    }

    async fn effective(&self) -> Result<Effective, StoreError> {
        let stored = self.stored(None).await?;
        let account = layer(Level::Account, &stored.account);
        Ok(layered(self.house.settings.defaults.clone(), [&account]))
    }

    /// The keys that the account trusts, the most preferred first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn trusted_keys(&self) -> Result<Vec<PublicKey>, StoreError> {
        Ok(self.effective().await?.trusted_public_keys)
    }

    /// Trusts a key, behind those that are trusted already.
    ///
    /// # Errors
    /// Not a key; or another key of that name is trusted.
    pub async fn add_trusted_key(&self, text: &str) -> Result<PublicKey, StoreError> {
        let key: PublicKey = text
            .trim()
            .parse()
            .map_err(|e: firn_nix::signature::SignatureError| {
                refused(format!("cannot trust this key: {e}"))
            })?;
        self.make_known(&key).await?;
        self.change(SettingChange::TrustKey(key.clone())).await?;
        Ok(key)
    }

    /// Trusts a key no more; it is named by its name or its whole text. What only it has signed is not valid any more.
    ///
    /// # Errors
    /// No such key is trusted.
    pub async fn remove_trusted_key(&self, key: &str) -> Result<(), StoreError> {
        self.change(SettingChange::DistrustKey(key.trim().to_owned()))
            .await
    }

    /// The binary caches that Firn asks for the account.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn substituters(&self) -> Result<Vec<CacheUrl>, StoreError> {
        Ok(self.effective().await?.substituters)
    }

    /// Adds a binary cache, after trying it.
    ///
    /// # Errors
    /// Not a cache's address, or that of one that can never be used here.
    pub async fn add_substituter(&self, url: &str) -> Result<AddedCache, StoreError> {
        let cache: CacheUrl = url
            .trim()
            .parse()
            .map_err(|e: firn_core::CacheUrlError| refused(e.to_string()))?;
        let trouble = self.try_cache(&cache).await?;
        self.change(SettingChange::AddSubstituter(cache.clone())).await?;
        Ok(AddedCache { cache, trouble })
    }

    /// Removes a binary cache.
    ///
    /// # Errors
    /// It is not one of the account's.
    pub async fn remove_substituter(&self, url: &str) -> Result<(), StoreError> {
        match url.trim().parse::<CacheUrl>() {
            Ok(cache) => {
                self.change(SettingChange::RemoveSubstituter(cache)).await?;
                self.refresh_substituters();
                Ok(())
            }
            Err(_) => {
                let none = ChangeError::NoSubstituter(excerpt(url.trim()).to_string());
                Err(told(none.into()))
            }
        }
    }

    /// Accounts that this one trusts or lets read, or that trust it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn relations(&self) -> Result<Vec<Relation>, StoreError> {
        self.house.db.relations(self.account.id).await.map_err(failed)
    }

    async fn other(&self, name: &str) -> Result<Account, StoreError> {
        let name = AccountName::parse(name).map_err(|e| refused(e.to_string()))?;
        if name == self.account.name {
            return Err(refused("an account trusts itself already"));
        }
        let found = self.house.db.account(&name).await.map_err(failed)?;
        found.ok_or_else(|| refused(format!("there is no account '{name}'")))
    }

    /// Believes what another account has, as far as that one lets it read; `None`: no more.
    ///
    /// # Errors
    /// No such account.
    pub async fn trust(&self, other: &str, level: Option<Trust>) -> Result<(), StoreError> {
        let other = self.other(other).await?;
        let trust = self.house.db.trust(self.account.id, other.id, level);
        trust.await.map_err(told)
    }

    /// Lets another account read what this one has, if that one trusts it; `None`: no more.
    ///
    /// # Errors
    /// No such account.
    pub async fn let_read(&self, other: &str, level: Option<Trust>) -> Result<(), StoreError> {
        let other = self.other(other).await?;
        let reader = self.house.db.let_read(self.account.id, other.id, level);
        reader.await.map_err(told)
    }

    /// Hosts that the account has logins for, with the user names. Passwords are never shown.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn logins(&self) -> Result<Vec<(String, String)>, StoreError> {
        let logins = self.house.db.logins(self.account.id).await.map_err(failed)?;
        Ok(logins
            .into_iter()
            .map(|(host, login)| (host, login.user))
            .collect())
    }

    /// Keeps a login for a host (`host` or `host:port`): it is shown to caches there.
    ///
    /// # Errors
    /// Not a host; too long; too many.
    pub async fn set_login(&self, host: &str, user: &str, password: &str) -> Result<(), StoreError> {
        let url: Result<CacheUrl, _> = format!("https://{host}").parse();
        let host = match &url {
            Ok(url) if url.host() == host.to_ascii_lowercase() => url.host(),
            _ => {
                return Err(refused(format!(
                    "'{}' is not a host: write HOST or HOST:PORT",
                    excerpt(host)
                )));
            }
        };
        if user.len() > MAX_LOGIN || password.len() > MAX_LOGIN {
            return Err(refused(format!("a login has at most {MAX_LOGIN} bytes")));
        }
        if user.contains([':', '\n', '\r', '\0']) || password.contains(['\n', '\r', '\0']) {
            return Err(refused("a user name has no ':', and a login no line end"));
        }
        let login = Login {
            user: user.to_owned(),
            password: password.to_owned(),
        };
        let set = self.house.db.set_login(self.account.id, host, Some(&login));
        set.await.map(drop).map_err(told)
    }

    /// Removes a login.
    ///
    /// # Errors
    /// There is none for the host.
    pub async fn remove_login(&self, host: &str) -> Result<(), StoreError> {
        let host = host.to_ascii_lowercase();
        let removed = self.house.db.set_login(self.account.id, &host, None);
        match removed.await.map_err(told)? {
            true => Ok(()),
            false => Err(refused(format!("there is no login for '{}'", excerpt(&host)))),
        }
    }

    /// The keys that sign for the account, the active one first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn signing_keys(&self) -> Result<Vec<SigningKeyRow>, StoreError> {
        let keys = self
            .house
            .db
            .signing_keys(self.account.id)
            .await
            .map_err(failed)?;
        Ok(keys.into_iter().filter_map(signing_key_row).collect())
    }

    /// Makes a new signing key; what comes is signed by it. What came before keeps its signatures.
    ///
    /// # Errors
    /// Too many keys.
    pub async fn rotate_signing_key(&self) -> Result<SigningKeyRow, StoreError> {
        let key = signing::new_key(&self.account.name)?;
        self.add_signing_key(&key).await
    }

    /// Signs with a key of the account's own from now on: the text of a secret key, `name:base64`.
    ///
    /// # Errors
    /// Not a secret key; too many keys.
    pub async fn import_signing_key(&self, secret: &str) -> Result<SigningKeyRow, StoreError> {
        let key: SecretKey = secret
            .trim()
            .parse()
            .map_err(|e: firn_nix::signature::SignatureError| {
                refused(format!("cannot import this key: {e}"))
            })?;
        self.add_signing_key(&NewSigningKey::Given(key.to_secret_text()))
            .await
    }

    async fn add_signing_key(&self, key: &NewSigningKey) -> Result<SigningKeyRow, StoreError> {
        let db = &self.house.db;
        let added = db.add_signing_key(self.account.id, key, self.house.now());
        let row = signing_key_row(added.await.map_err(told)?);
        row.ok_or_else(|| StoreError::new("internal error: a signing key cannot be read back"))
    }

    /// The SSH keys that act for the account, the oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn ssh_keys(&self) -> Result<Vec<SshKey>, StoreError> {
        self.house.db.keys(self.account.id).await.map_err(failed)
    }

    async fn ssh_key(&self, fingerprint: &str) -> Result<SshKey, StoreError> {
        let found = self
            .ssh_keys()
            .await?
            .into_iter()
            .find(|k| k.fingerprint == fingerprint);
        found.ok_or_else(|| {
            refused(
                DatabaseError::NoKey {
                    account: self.account.name.to_string(),
                    fingerprint: excerpt(fingerprint).to_string(),
                }
                .to_string(),
            )
        })
    }

    /// Lets an SSH key act for the account, without a proof that anybody has it: the operator alone may say so.
    ///
    /// # Errors
    /// It acts for another account; or it is not the operator who asks.
    pub async fn add_ssh_key(&self, key: &SshKey) -> Result<(), StoreError> {
        if !self.operator {
            return Err(refused("only the operator adds a key that is not proved"));
        }
        self.house.db.add_key(self.account.id, key).await.map_err(told)
    }

    /// Lets an SSH key act for the account no more. What it has open ends, and the keys that it wanted to add wait in vain.
    ///
    /// # Errors
    /// It has none such.
    pub async fn remove_ssh_key(&self, fingerprint: &str) -> Result<(), StoreError> {
        self.ssh_key(fingerprint).await?;
        let removed = self.house.db.remove_key(&self.account, fingerprint);
        removed.await.map_err(told)?;
        self.house.new_keys.drop_wishes(&self.account, Some(fingerprint));
        self.house.presences.changed(self.account.id);
        Ok(())
    }

    /// Why the account's view has a path, or has it not.
    ///
    /// # Errors
    /// Not a store path.
    pub async fn explain(&self, path: &str) -> Result<Explanation, StoreError> {
        let path = parse_path(path)?;
        let store = self.house.store(self.account.clone());
        let terms = store.terms().await?;
        let draft = self
            .house
            .draft(&terms, std::slice::from_ref(&path), MAX_CLOSURE)
            .await?;
        let view = self.house.view(&terms, std::slice::from_ref(&path)).await?;
        let chosen = view.get(&path).map(|c| c.candidate.id);
        let mut candidates = Vec::new();
        for candidate in draft.candidates(&path) {
            let object = &candidate.object;
            let references: Vec<StorePath> = object.references.iter().cloned().collect();
            let seen = self.house.view(&terms, &references).await?;
            let missing: BTreeSet<StorePath> = references
                .into_iter()
                .filter(|r| *r != path && seen.get(r).is_none())
                .collect();
            let origin = self.origin(&terms, candidate).await?;
            candidates.push(ExplainedCandidate {
                content: object.content.to_string(),
                nar_size: object.nar_size,
                why: origin.to_string(),
                chosen: chosen == Some(candidate.id),
                missing,
            });
        }
        let caches = match chosen {
            Some(_) => Vec::new(),
            None => self.caches_say(&store, &path).await?,
        };
        Ok(Explanation {
            path,
            valid: chosen.is_some(),
            candidates,
            caches,
        })
    }

    /// The account's latest requests, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn builds(&self, limit: u32) -> Result<Vec<RequestRecord>, StoreError> {
        let requests = self.house.db.requests(self.account.id, limit.min(10_000));
        requests.await.map_err(failed)
    }

    /// Takes back the account's own evidence for paths: what it uploaded, fetched or had built. How many pieces there were.
    ///
    /// # Errors
    /// Not a store path.
    pub async fn forget(&self, paths: &[String]) -> Result<u64, StoreError> {
        let paths = paths
            .iter()
            .map(|p| parse_path(p))
            .collect::<Result<Vec<_>, _>>()?;
        self.house
            .db
            .forget(self.account.id, &paths)
            .await
            .map_err(failed)
    }
}

fn signing_key_row(key: SigningKey) -> Option<SigningKeyRow> {
    let secret: SecretKey = key.secret.parse().ok()?;
    Some(SigningKeyRow {
        public: secret.public_key().to_string(),
        created: key.created,
        active: key.active,
    })
}

pub(crate) fn parse_path(text: &str) -> Result<StorePath, StoreError> {
    StorePath::parse(text.as_bytes())
        .map_err(|e| refused(format!("'{}' is not a store path: {e}", excerpt(text))))
}
