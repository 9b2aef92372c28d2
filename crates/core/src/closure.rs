//! The closure of some paths in a view that is looked up part by part.

use std::collections::HashSet;
use std::sync::Arc;

use firn_nix::StorePath;
use foldhash::quality::RandomState;

use crate::{Choice, View};

/// What is found of a closure, and what to look up next.
#[derive(Debug)]
pub struct Closure {
    found: Vec<(StorePath, Arc<Choice>)>,
    /// Asked once for each reference, many times more often than there are paths.
    seen: HashSet<StorePath, RandomState>,
    wanted: Vec<StorePath>,
}

impl Closure {
    /// Of these paths.
    pub fn of<'p>(roots: impl IntoIterator<Item = &'p StorePath>) -> Self {
        let mut closure = Self {
            found: Vec::new(),
            seen: HashSet::default(),
            wanted: Vec::new(),
        };
        roots.into_iter().for_each(|root| closure.want(root));
        closure
    }

    fn want(&mut self, path: &StorePath) {
        if !self.seen.contains(path) {
            self.seen.insert(path.clone());
            self.wanted.push(path.clone());
        }
    }

    /// What has to be looked up; when there is nothing, the closure is complete.
    #[must_use]
    pub fn wanted(&self) -> &[StorePath] {
        &self.wanted
    }

    /// How many paths it has, as far as is known.
    #[must_use]
    pub fn seen(&self) -> usize {
        self.seen.len()
    }

    /// Adds what the view has for the wanted paths; it may have more.
    ///
    /// # Errors
    /// The first path that the view has not.
    pub fn add(&mut self, mut part: View) -> Result<(), StorePath> {
        for path in std::mem::take(&mut self.wanted) {
            let Some(choice) = part.take(&path) else {
                return Err(path);
            };
            self.find(path, choice);
        }
        Ok(())
    }

    /// Goes on as far as everything is known; what is not stays wanted.
    pub fn follow(&mut self, known: impl Fn(&StorePath) -> Option<Arc<Choice>>) {
        let mut unknown = Vec::new();
        while !self.wanted.is_empty() {
            for path in std::mem::take(&mut self.wanted) {
                match known(&path) {
                    Some(choice) => self.find(path, choice),
                    None => unknown.push(path),
                }
            }
        }
        self.wanted = unknown;
    }

    fn find(&mut self, path: StorePath, choice: Arc<Choice>) {
        for reference in &choice.object().references {
            self.want(reference);
        }
        self.found.push((path, choice));
    }

    /// What was found.
    #[must_use]
    pub fn into_view(self) -> View {
        View::from_iter(self.found)
    }
}
