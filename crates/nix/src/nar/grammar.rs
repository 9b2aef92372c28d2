//! The grammar as a state machine: which token may come next, and how many bytes must follow at least.

use super::NarLimits;

pub(super) const MAGIC: &[u8] = b"nix-archive-1";
pub(super) const OPEN: &[u8] = b"(";
pub(super) const CLOSE: &[u8] = b")";
pub(super) const TYPE: &[u8] = b"type";
pub(super) const REGULAR: &[u8] = b"regular";
pub(super) const EXECUTABLE: &[u8] = b"executable";
pub(super) const CONTENTS: &[u8] = b"contents";
pub(super) const SYMLINK: &[u8] = b"symlink";
pub(super) const TARGET: &[u8] = b"target";
pub(super) const DIRECTORY: &[u8] = b"directory";
pub(super) const ENTRY: &[u8] = b"entry";
pub(super) const NAME: &[u8] = b"name";
pub(super) const NODE: &[u8] = b"node";

/// What the reader waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    Magic,
    Open,
    Type,
    Kind,
    ExecutableOrContents,
    ExecutableValue,
    Contents,
    Size,
    Data { left: u64, padding: u64 },
    Padding { left: u64 },
    TargetTag,
    Target,
    CloseRegular,
    CloseSymlink,
    EntryOrClose,
    EntryOpen,
    NameTag,
    Name,
    NodeTag,
    EntryClose,
    Done,
    Failed,
}

/// Bytes of a token of `len` bytes: length word, text, padding.
pub(super) const fn encoded(len: usize) -> u64 {
    8 + (len as u64).next_multiple_of(8)
}

/// Bytes of the smallest node, an empty directory.
const SMALLEST_NODE: u64 =
    encoded(OPEN.len()) + encoded(TYPE.len()) + encoded(DIRECTORY.len()) + encoded(CLOSE.len());

impl Expect {
    /// Whether a token in this state may be `length` bytes long; the error is the limit.
    pub(super) fn check_length(self, length: u64, limits: &NarLimits) -> Result<usize, u64> {
        // Longer than every keyword, so that an error can show short garbage.
        const KEYWORD: u64 = 16;
        let limit = match self {
            Self::Name => limits.name,
            Self::Target => limits.target,
            _ => KEYWORD,
        };
        usize::try_from(length)
            .ok()
            .filter(|_| length <= limit)
            .ok_or(limit)
    }

    /// The acceptable tokens in words.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Magic => "'nix-archive-1'",
            Self::Open | Self::EntryOpen => "'('",
            Self::Type => "'type'",
            Self::Kind => "'regular', 'symlink' or 'directory'",
            Self::ExecutableOrContents => "'executable' or 'contents'",
            Self::ExecutableValue => "'' after 'executable'",
            Self::Contents => "'contents'",
            Self::Size => "the size of the contents",
            Self::Data { .. } => "contents",
            Self::Padding { .. } => "padding",
            Self::TargetTag => "'target'",
            Self::Target => "a symlink target",
            Self::CloseRegular | Self::CloseSymlink | Self::EntryClose => "')'",
            Self::EntryOrClose => "'entry' or ')'",
            Self::NameTag => "'name'",
            Self::Name => "a file name",
            Self::NodeTag => "'node'",
            Self::Done | Self::Failed => "nothing",
        }
    }

    /// Bytes that must follow at least before the archive can be complete, with `open` directories open.
    pub(super) fn at_least(self, open: u64) -> u64 {
        const TAG: u64 = encoded(1);
        // Each open directory still needs the ')' of the entry and its own.
        let outside = open.saturating_mul(2 * TAG);
        let inside = match self {
            Self::Magic => encoded(MAGIC.len()) + SMALLEST_NODE,
            Self::Open => SMALLEST_NODE,
            Self::Type => SMALLEST_NODE - TAG,
            Self::Kind => SMALLEST_NODE - 2 * TAG,
            Self::ExecutableOrContents | Self::Contents => encoded(CONTENTS.len()) + 8 + TAG,
            Self::ExecutableValue => 8 + encoded(CONTENTS.len()) + 8 + TAG,
            Self::Size => 8 + TAG,
            Self::Data { left, padding } => left.saturating_add(padding + TAG),
            Self::Padding { left } => left + TAG,
            Self::TargetTag => encoded(TARGET.len()) + encoded(1) + TAG,
            Self::Target => encoded(1) + TAG,
            Self::CloseRegular | Self::CloseSymlink => TAG,
            // The directory waiting here is counted in `outside` with a ')' too many: that of an entry.
            Self::EntryOrClose => return outside.saturating_sub(TAG),
            Self::EntryOpen => TAG + encoded(NAME.len()) + encoded(1) + encoded(NODE.len()) + SMALLEST_NODE,
            Self::NameTag => encoded(NAME.len()) + encoded(1) + encoded(NODE.len()) + SMALLEST_NODE,
            Self::Name => encoded(1) + encoded(NODE.len()) + SMALLEST_NODE,
            Self::NodeTag => encoded(NODE.len()) + SMALLEST_NODE,
            Self::EntryClose => 0,
            Self::Done | Self::Failed => return 0,
        };
        outside.saturating_add(inside)
    }
}

/// Whether Nix allows this as the name of a directory entry.
pub(super) fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && memchr::memchr2(b'/', 0, name).is_none()
}

/// Whether this can be the target of a symbolic link.
pub(super) fn is_target(target: &[u8]) -> bool {
    !target.is_empty() && memchr::memchr(0, target).is_none()
}
