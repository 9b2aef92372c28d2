//! Keys, and what they sign.

use firn_nix::signature::SecretKey;

use super::objects::Item;

/// A key of that name; another number is another key of the same name.
pub fn key(name: &str, number: u8) -> SecretKey {
    SecretKey::from_seed(name, &[number; 32]).unwrap()
}

impl Item {
    pub fn fingerprint(&self) -> String {
        let info = &self.info;
        firn_nix::fingerprint(&info.path, info.nar_hash, info.nar_size, &info.references)
    }

    /// The signature of a key over this object.
    pub fn signature(&self, key: &SecretKey) -> String {
        key.sign(self.fingerprint().as_bytes()).to_string()
    }

    /// The same object with a key's signature more.
    pub fn signed(&self, key: &SecretKey) -> Item {
        let mut item = self.clone();
        item.info.signatures.insert(self.signature(key));
        item
    }
}
