//! Rewriting of paths that are known only after a build.
//!
//! Placeholders: what stands for an output path before it is known, and how it is replaced.

use memchr::memmem;

pub use crate::rewrite_stream::{
    HashModuloSelf, HashRewriter, HashesModuloSelf, MAX_SELF_REFERENCES, SelfReferences,
    TooManySelfReferences,
};

use crate::path::output_path_name;
use crate::{Hash, PathError, StorePath, base32};

/// What a derivation writes for the path of its own output: `/` and 52 digits.
#[must_use]
pub fn placeholder(output: &str) -> String {
    digits(&format!("nix-output:{output}"))
}

/// What a derivation writes for the path of an output of `drv` that is known only after that is built.
///
/// # Errors
/// [`PathError`] when `drv` is not a derivation's path or the output's name cannot be part of a path.
pub fn upstream_placeholder(drv: &StorePath, output: &str) -> Result<String, PathError> {
    let name = drv
        .derivation_name()
        .ok_or_else(|| PathError::Name(drv.base_name().to_owned()))?;
    let output_name = output_path_name(name, output)?;
    Ok(digits(&format!(
        "nix-upstream-output:{}:{output_name}",
        drv.hash_part()
    )))
}

fn digits(text: &str) -> String {
    format!("/{}", base32::encode(Hash::sha256(text.as_bytes()).bytes()))
}

/// Replaces every occurrence, one pair after the other. Text that was put in is not searched again for the same pair.
#[must_use]
pub fn rewrite_strings<F: AsRef<[u8]>, T: AsRef<[u8]>>(bytes: &[u8], rewrites: &[(F, T)]) -> Vec<u8> {
    let mut text = bytes.to_vec();
    for (from, to) in rewrites {
        let (from, to) = (from.as_ref(), to.as_ref());
        if from.is_empty() || from == to {
            continue;
        }
        let mut hits = memmem::find_iter(&text, from).peekable();
        if hits.peek().is_none() {
            continue;
        }
        let mut out = Vec::with_capacity(text.len());
        let mut done = 0;
        for hit in hits {
            out.extend_from_slice(text.get(done..hit).unwrap_or_default());
            out.extend_from_slice(to);
            done = hit + from.len();
        }
        out.extend_from_slice(text.get(done..).unwrap_or_default());
        text = out;
    }
    text
}
