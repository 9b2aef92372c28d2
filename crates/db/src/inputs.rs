//! The objects that a run was made of, as one column: numbers ascending, each as its distance to the one before (the first: to 0), in
//! seven bits a byte from the lowest, with the eighth set where more follow. A closure of thousands takes a byte or two for each.

use std::collections::BTreeSet;

use firn_core::ObjectId;
use firn_service::ports::DatabaseError;

use crate::error::{WriteError, backend};

const MORE: u8 = 0x80;

/// Numbers of objects are above 0.
pub fn encode(inputs: &BTreeSet<ObjectId>) -> Result<Vec<u8>, DatabaseError> {
    let mut bytes = Vec::with_capacity(inputs.len() * 2);
    let mut before = 0;
    for ObjectId(id) in inputs {
        let distance = id.checked_sub(before).filter(|distance| *distance > 0);
        let mut rest = distance
            .ok_or_else(|| backend(WriteError::NoObject(*id)))?
            .cast_unsigned();
        before = *id;
        while rest >= u64::from(MORE) {
            bytes.push((rest & 0x7f) as u8 | MORE);
            rest >>= 7;
        }
        bytes.push(rest as u8);
    }
    Ok(bytes)
}

/// Takes what [`encode`] gives and nothing else.
pub fn decode(bytes: &[u8]) -> Result<BTreeSet<ObjectId>, &'static str> {
    let mut ids = Vec::with_capacity(bytes.len());
    let mut before = 0_i64;
    let mut bytes = bytes.iter();
    while let Some(first) = bytes.next() {
        let mut byte = *first;
        let mut distance = i64::from(byte & !MORE);
        // 63 bits, as no number is negative.
        for shift in (7..).step_by(7) {
            if byte & MORE == 0 {
                break;
            }
            byte = *bytes.next().ok_or("ends within a number")?;
            if byte == 0 {
                return Err("has a number that is longer than it must be");
            }
            if shift >= 63 {
                return Err("has a number of more than 63 bits");
            }
            distance |= i64::from(byte & !MORE) << shift;
        }
        if distance == 0 {
            return Err("has a number twice");
        }
        before = before
            .checked_add(distance)
            .ok_or("has a number of more than 63 bits")?;
        ids.push(ObjectId(before));
    }
    Ok(ids.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[i64]) -> BTreeSet<ObjectId> {
        ids.iter().copied().map(ObjectId).collect()
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for ids in [
            &[][..],
            &[1],
            &[127, 128],
            &[1, 128, 129, 16_513],
            &[i64::MAX],
            &[1, i64::MAX - 1, i64::MAX],
        ] {
            let bytes = encode(&set(ids)).unwrap();
            assert_eq!(decode(&bytes), Ok(set(ids)), "{bytes:02x?}");
        }
        assert_eq!(encode(&set(&[1, 2, 130, 430])).unwrap(), [1, 1, 0x80, 1, 0xac, 2]);
    }

    #[test]
    fn only_numbers_of_objects_are_encoded() {
        assert!(encode(&set(&[0])).is_err());
        assert!(encode(&set(&[-1, 5])).is_err());
        assert!(encode(&set(&[i64::MIN, i64::MAX])).is_err());
    }

    #[test]
    fn nothing_else_is_decoded() {
        let too_long = [[0xff; 9].as_slice(), &[1]].concat();
        let too_large = [encode(&set(&[i64::MAX])).unwrap(), vec![1]].concat();
        for (bytes, why) in [
            (&[0x80][..], "ends"),
            (&[1, 0xff, 0xff], "ends"),
            (&[0], "twice"),
            (&[1, 0], "twice"),
            (&[0x81, 0], "longer"),
            (&[0x80, 0x80, 0], "longer"),
            (&too_long, "63 bits"),
            (&too_large, "63 bits"),
            (&[0xff; 40], "63 bits"),
        ] {
            let error = decode(bytes).unwrap_err();
            assert!(error.contains(why), "{bytes:02x?}: {error}");
        }
    }

    #[test]
    fn any_bytes_are_refused_or_are_the_encoding() {
        let mut state = 1_u32;
        for length in 0..2_000 {
            let bytes: Vec<u8> = (0..length % 12)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                })
                .collect();
            if let Ok(ids) = decode(&bytes) {
                assert_eq!(encode(&ids).unwrap(), bytes);
            }
        }
    }
}
