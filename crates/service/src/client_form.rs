//! Which form of content addresses the client of a session computes: it refuses what has the other one.

use std::sync::{Mutex, PoisonError};

use firn_core::View;
use firn_nix::rewrite::SelfReferences;
use firn_protocol::Addressing;

/// What is known of it so far.
#[derive(Debug, Default)]
pub(crate) struct ClientForm(Mutex<Option<Addressing>>);

impl ClientForm {
    /// What the protocol tells.
    pub(crate) fn meet(&self, addressing: Addressing) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(addressing);
    }

    fn addressing(&self) -> Option<Addressing> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the protocol leaves it open.
    pub(crate) fn is_open(&self) -> bool {
        self.addressing().is_some_and(|addressing| !addressing.certain)
    }

    /// What the client has computed itself shows it, where the protocol leaves it open.
    pub(crate) fn learn(&self, form: SelfReferences) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(addressing) = known.as_mut().filter(|addressing| !addressing.certain) {
            addressing.form = form;
        }
    }

    /// What the client has shows it: it could not have taken what is of the other form.
    pub(crate) fn learn_from(&self, has: &View) {
        let seen = |form| has.objects().any(|object| object.self_references == Some(form));
        match SelfReferences::ALL.map(seen) {
            [true, false] => self.learn(SelfReferences::Placed),
            [false, true] => self.learn(SelfReferences::Unplaced),
            _ => {}
        }
    }

    /// The form; `None` without a client.
    pub(crate) fn get(&self) -> Option<SelfReferences> {
        self.addressing().map(|addressing| addressing.form)
    }

    /// The form, where the protocol tells.
    pub(crate) fn certain(&self) -> Option<SelfReferences> {
        let addressing = self.addressing().filter(|addressing| addressing.certain);
        addressing.map(|addressing| addressing.form)
    }

    /// The form to build.
    pub(crate) fn to_build(&self) -> SelfReferences {
        self.get().unwrap_or(SelfReferences::Placed)
    }
}
