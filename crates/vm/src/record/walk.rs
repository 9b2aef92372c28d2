//! Why an output cannot be taken, so that the host can say it in the same words as for an output on its own disk.

use firn_content::{WalkError, WalkProblem};
use rustix::io::Errno;

/// Problem and two numbers; the place in the tree follows.
pub(super) const FIXED: usize = 1 + 2 * 8;

/// Longest place in a tree: 256 levels of names, and a little more.
pub(super) const MAX_PATH: usize = 66 << 10;

/// What firn-content calls the types of files that cannot be stored.
const TYPES: [&str; 5] = [
    "file of unknown type",
    "named pipe",
    "socket",
    "character device",
    "block device",
];

pub(super) fn encode(error: &WalkError) -> Vec<u8> {
    let (kind, a, b) = match &error.problem {
        WalkProblem::FileType(name) => {
            let at = TYPES.iter().position(|known| known == name).unwrap_or_default();
            (0, at as u64, 0)
        }
        WalkProblem::Owner { expected, found } => (1, u64::from(*expected), u64::from(*found)),
        WalkProblem::Writable(mode) => (2, u64::from(*mode), 0),
        // The latter comes only of trees that no build has made.
        WalkProblem::Changed | WalkProblem::NotCanonical(_) => (3, 0, 0),
        WalkProblem::Mount => (4, 0, 0),
        WalkProblem::Depth(limit) => (5, *limit as u64, 0),
        WalkProblem::Entries(limit) => (6, *limit, 0),
        WalkProblem::Bytes(limit) => (7, *limit, 0),
        WalkProblem::Name => (8, 0, 0),
        WalkProblem::Target => (9, 0, 0),
        WalkProblem::Io(errno) => (10, u64::from(errno.raw_os_error().unsigned_abs()), 0),
    };
    let mut body = vec![kind];
    body.extend(a.to_le_bytes());
    body.extend(b.to_le_bytes());
    body.extend(error.path.iter().take(MAX_PATH));
    body
}

pub(super) fn decode(body: &[u8]) -> Option<WalkError> {
    let (&kind, rest) = body.split_first()?;
    let (a, rest) = rest.split_first_chunk::<8>()?;
    let (b, path) = rest.split_first_chunk::<8>()?;
    let (a, b) = (u64::from_le_bytes(*a), u64::from_le_bytes(*b));
    let problem = match (kind, a, b) {
        (0, at, 0) => WalkProblem::FileType(TYPES.get(usize::try_from(at).ok()?)?),
        (1, expected, found) => WalkProblem::Owner {
            expected: expected.try_into().ok()?,
            found: found.try_into().ok()?,
        },
        (2, mode @ 0..=0o7777, 0) => WalkProblem::Writable(mode.try_into().ok()?),
        (3, 0, 0) => WalkProblem::Changed,
        (4, 0, 0) => WalkProblem::Mount,
        (5, limit, 0) => WalkProblem::Depth(limit.try_into().ok()?),
        (6, limit, 0) => WalkProblem::Entries(limit),
        (7, limit, 0) => WalkProblem::Bytes(limit),
        (8, 0, 0) => WalkProblem::Name,
        (9, 0, 0) => WalkProblem::Target,
        (10, errno @ 1..=4095, 0) => WalkProblem::Io(Errno::from_raw_os_error(errno.try_into().ok()?)),
        _ => return None,
    };
    Some(WalkError {
        path: path.to_vec(),
        problem,
    })
}
