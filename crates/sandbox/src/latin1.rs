//! Byte strings in JSON: each byte is the character of the same number (ISO 8859-1), so nothing is lost and plain
//! ASCII stays readable. Use as `#[serde(with = "crate::latin1")]`.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value that is made of byte strings.
pub(crate) trait Latin1: Sized {
    type Wire: Serialize + DeserializeOwned;
    fn to_wire(&self) -> Self::Wire;
    fn from_wire(wire: Self::Wire) -> Option<Self>;
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

impl Latin1 for Vec<u8> {
    type Wire = String;
    fn to_wire(&self) -> String {
        text(self)
    }
    fn from_wire(wire: String) -> Option<Self> {
        wire.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
    }
}

impl Latin1 for PathBuf {
    type Wire = String;
    fn to_wire(&self) -> String {
        text(self.as_os_str().as_bytes())
    }
    fn from_wire(wire: String) -> Option<Self> {
        Vec::from_wire(wire).map(|bytes| PathBuf::from(OsString::from_vec(bytes)))
    }
}

impl<T: Latin1> Latin1 for Vec<T> {
    type Wire = Vec<T::Wire>;
    fn to_wire(&self) -> Self::Wire {
        self.iter().map(T::to_wire).collect()
    }
    fn from_wire(wire: Self::Wire) -> Option<Self> {
        wire.into_iter().map(T::from_wire).collect()
    }
}

impl<T: Latin1> Latin1 for Option<T> {
    type Wire = Option<T::Wire>;
    fn to_wire(&self) -> Self::Wire {
        self.as_ref().map(T::to_wire)
    }
    fn from_wire(wire: Self::Wire) -> Option<Self> {
        match wire {
            Some(wire) => T::from_wire(wire).map(Some),
            None => Some(None),
        }
    }
}

impl<A: Latin1, B: Latin1> Latin1 for (A, B) {
    type Wire = (A::Wire, B::Wire);
    fn to_wire(&self) -> Self::Wire {
        (self.0.to_wire(), self.1.to_wire())
    }
    fn from_wire(wire: Self::Wire) -> Option<Self> {
        Some((A::from_wire(wire.0)?, B::from_wire(wire.1)?))
    }
}

pub(crate) fn serialize<T: Latin1, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    value.to_wire().serialize(serializer)
}

pub(crate) fn deserialize<'de, T: Latin1, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::from_wire(T::Wire::deserialize(deserializer)?)
        .ok_or_else(|| D::Error::custom("a byte string holds a character above U+00FF"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives() {
        let all: Vec<u8> = (0..=255).collect();
        let json = serde_json::to_string(&all.to_wire()).unwrap();
        assert_eq!(
            Vec::<u8>::from_wire(serde_json::from_str(&json).unwrap()),
            Some(all)
        );
    }

    #[test]
    fn wide_characters_are_refused() {
        assert_eq!(Vec::<u8>::from_wire("\u{100}".to_owned()), None);
    }
}
