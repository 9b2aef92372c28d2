//! Build requests and results as both protocols mean them.

use std::collections::{BTreeMap, BTreeSet};

use firn_nix::StorePath;

use crate::store::MAX_WORDS;

/// What to do when outputs exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BuildMode {
    /// Nothing.
    #[default]
    Normal,
    /// Restore damaged ones.
    Repair,
    /// Build again and compare.
    Check,
}

/// Something that can be made valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DerivedPath {
    /// A path as it is.
    Opaque(StorePath),
    /// Outputs of a derivation.
    Built {
        /// The derivation.
        drv_path: StorePath,
        /// Which outputs.
        outputs: OutputsSpec,
    },
}

/// Which outputs of a derivation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputsSpec {
    /// All of them.
    All,
    /// These.
    Names(BTreeSet<String>),
}

/// How a build ended, in Nix's terms. The numbers are the wire's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum BuildStatus {
    /// Ran and succeeded.
    Built = 0,
    /// Fetched.
    Substituted = 1,
    /// Was there.
    AlreadyValid = 2,
    /// The builder's own doing.
    PermanentFailure = 3,
    /// The derivation or its inputs were refused.
    InputRejected = 4,
    /// An output broke a rule.
    OutputRejected = 5,
    /// May go well next time.
    TransientFailure = 6,
    /// A failure that was remembered.
    CachedFailure = 7,
    /// Too long, or too long silent.
    TimedOut = 8,
    /// Anything else.
    MiscFailure = 9,
    /// An input failed.
    DependencyFailed = 10,
    /// Too much log.
    LogLimitExceeded = 11,
    /// A check gave other bytes.
    NotDeterministic = 12,
    /// Resolved to a derivation whose outputs are valid.
    ResolvesToAlreadyValid = 13,
    /// Nobody has it.
    NoSubstituters = 14,
}

impl BuildStatus {
    /// Every status in the order of its number.
    pub const ALL: [Self; 15] = [
        Self::Built,
        Self::Substituted,
        Self::AlreadyValid,
        Self::PermanentFailure,
        Self::InputRejected,
        Self::OutputRejected,
        Self::TransientFailure,
        Self::CachedFailure,
        Self::TimedOut,
        Self::MiscFailure,
        Self::DependencyFailed,
        Self::LogLimitExceeded,
        Self::NotDeterministic,
        Self::ResolvesToAlreadyValid,
        Self::NoSubstituters,
    ];

    /// Whether the outputs are valid now.
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(
            self,
            Self::Built | Self::Substituted | Self::AlreadyValid | Self::ResolvesToAlreadyValid
        )
    }
}

/// An output that a build made known: what a realisation says beyond its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltOutput {
    /// Hash modulo of the derivation, 64 hex digits, for clients that look results up by it.
    pub drv_hash: String,
    /// Where it is.
    pub out_path: StorePath,
    /// `name:base64` each, over the realisation that names the derivation by its hash.
    pub signatures: BTreeSet<String>,
    /// Those over the realisation that names the derivation by its path.
    pub path_signatures: BTreeSet<String>,
}

/// What a client is told of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildResult {
    /// How it ended.
    pub status: BuildStatus,
    /// What went wrong, for a person; empty on success. Bytes: it may quote a log. At most [`MAX_WORDS`].
    pub error_msg: Vec<u8>,
    /// How often it was run for this answer.
    pub times_built: u64,
    /// Whether repeated runs differed.
    pub is_non_deterministic: bool,
    /// Seconds since 1970; 0 when it did not run.
    pub start_time: u64,
    /// Seconds since 1970; 0 when it did not run.
    pub stop_time: u64,
    /// Microseconds.
    pub cpu_user: Option<u64>,
    /// Microseconds.
    pub cpu_system: Option<u64>,
    /// By output name.
    pub built_outputs: BTreeMap<String, BuiltOutput>,
}

impl BuildResult {
    /// A result with that status and text, which is cut where it is too long, and nothing else known.
    #[must_use]
    pub fn new(status: BuildStatus, error_msg: impl Into<Vec<u8>>) -> Self {
        let mut error_msg = error_msg.into();
        let all = error_msg.len();
        if all > MAX_WORDS {
            error_msg.truncate(MAX_WORDS - 64);
            error_msg.extend_from_slice(format!("… ({all} bytes in all)").as_bytes());
            error_msg.shrink_to_fit();
        }
        Self {
            status,
            error_msg,
            times_built: 0,
            is_non_deterministic: false,
            start_time: 0,
            stop_time: 0,
            cpu_user: None,
            cpu_system: None,
            built_outputs: BTreeMap::new(),
        }
    }
}
