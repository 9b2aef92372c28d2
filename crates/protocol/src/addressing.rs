//! Which form of content addresses a client computes, as far as its protocol tells.

use firn_nix::rewrite::SelfReferences;

/// The form of content addresses that a client checks. It refuses what refers to itself and has an address of the other form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addressing {
    /// The form; the likelier one, where the protocol leaves it open.
    pub form: SelfReferences,
    /// Whether the protocol tells.
    pub certain: bool,
}

impl Addressing {
    pub(crate) const fn certain(form: SelfReferences) -> Self {
        Self { form, certain: true }
    }

    pub(crate) const fn likely(form: SelfReferences) -> Self {
        Self { form, certain: false }
    }
}
