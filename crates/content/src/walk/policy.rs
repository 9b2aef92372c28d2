/// How much a tree on disk is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkPolicy {
    /// A tree of the store: nothing is checked but that there are only files, directories and links.
    Own,
    /// A tree of the store, which must have exactly the modes, times and link counts that the store gives.
    Canonical,
    /// What a build left behind. Everything must belong to `owner`, so that a hard link to somebody else's file is
    /// refused; the root must not be writable for group or others (Nix: "suspicious ownership or permission"; as in
    /// Nix, what is below it may be); nothing may change during the walk or be another mount. Hard links within the
    /// tree come out as separate files.
    BuildOutput {
        /// The user the build ran as, in the numbers of this process.
        owner: u32,
    },
}

impl WalkPolicy {
    /// Whether somebody else made the tree.
    pub(super) fn is_foreign(self) -> bool {
        matches!(self, Self::BuildOutput { .. })
    }

    pub(super) fn looks_at_links(self) -> bool {
        self != Self::Own
    }
}

/// How large a tree may be. All are checked before anything is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalkLimits {
    /// Nodes on the way from the root to the deepest node, both counted: 256 are 255 directories and what is in the innermost.
    pub depth: usize,
    /// Files, directories and links together, the root counted. Each costs the memory of its name while its directory
    /// is walked.
    pub entries: u64,
    /// Sizes of all files added up, holes and hard links counted in full.
    pub bytes: u64,
}

impl Default for WalkLimits {
    fn default() -> Self {
        Self {
            depth: 256,
            entries: 10_000_000,
            bytes: 1 << 40,
        }
    }
}
