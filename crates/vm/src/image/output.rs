//! Writing one part of an image from its beginning to its end.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt as _;

use firn_content::WalkProblem;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::format::BLOCK;

/// Bytes that are collected before they are written, and copied at a time where the kernel does not copy.
const BUFFER: usize = 256 * 1024;
/// Data up to this size is collected with what is before and after it, for fewer system calls.
const SMALL: u64 = 64 * 1024;

/// One part of an image file.
pub(super) struct Output<'a> {
    file: &'a File,
    /// Where the buffer's bytes go.
    at: u64,
    buffer: Vec<u8>,
}

/// Why data did not get from a file into the image.
pub(super) enum CopyError {
    /// The file is not what it was.
    Source(WalkProblem),
    /// Reading or writing failed.
    Io(io::Error),
}

impl From<io::Error> for CopyError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl<'a> Output<'a> {
    pub(super) fn new(file: &'a File, at: u64) -> Self {
        Self {
            file,
            at,
            buffer: Vec::with_capacity(BUFFER),
        }
    }

    fn position(&self) -> u64 {
        self.at + self.buffer.len() as u64
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.at)?;
        self.at = self.position();
        self.buffer.clear();
        Ok(())
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        if bytes.len() > BUFFER {
            self.file.write_all_at(bytes, self.at)?;
            self.at += bytes.len() as u64;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// Goes on at `position`, at most a block further, with zeros up to there.
    pub(super) fn zeros_to(&mut self, position: u64) -> io::Result<()> {
        const ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];
        let zeros = position.checked_sub(self.position());
        let zeros = zeros.and_then(|count| ZEROS.get(..usize::try_from(count).ok()?));
        let zeros = zeros.ok_or_else(|| io::Error::other("a node is not where it should be"))?;
        self.put(zeros)
    }

    /// Copies `size` bytes of a file, beginning at `from`.
    pub(super) fn copy(&mut self, file: BorrowedFd<'_>, from: u64, size: u64) -> Result<(), CopyError> {
        if size <= SMALL {
            return self.read(file, from, size);
        }
        self.flush()?;
        let last = from + size;
        let mut from = from;
        while let Some((begin, end)) = data(file, from, last)? {
            // What is a hole in the file stays one in the image.
            self.at += begin - from;
            self.copy_data(file, begin, end)?;
            from = end;
        }
        self.at += last - from;
        Ok(())
    }

    fn copy_data(&mut self, file: BorrowedFd<'_>, mut from: u64, end: u64) -> Result<(), CopyError> {
        while from < end {
            let want = usize::try_from(end - from).unwrap_or(usize::MAX);
            match rustix::fs::copy_file_range(file, Some(&mut from), self.file, Some(&mut self.at), want) {
                Ok(0) => return Err(CopyError::Source(WalkProblem::Changed)),
                Ok(_) | Err(Errno::INTR) => {}
                // Not between these two file systems, not in this kernel or sandbox.
                Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                    while from < end {
                        let chunk = (end - from).min(BUFFER as u64);
                        self.read(file, from, chunk)?;
                        from += chunk;
                    }
                    // Holes may follow.
                    self.flush()?;
                }
                Err(errno) => return Err(CopyError::Io(errno.into())),
            }
        }
        Ok(())
    }

    /// Reads `size` bytes, at most a buffer of them, into the buffer.
    fn read(&mut self, file: BorrowedFd<'_>, from: u64, size: u64) -> Result<(), CopyError> {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if self.buffer.len() + size > BUFFER {
            self.flush()?;
        }
        let start = self.buffer.len();
        self.buffer.resize(start + size, 0);
        let mut read = 0;
        while let Some(space) = self
            .buffer
            .get_mut(start + read..)
            .filter(|space| !space.is_empty())
        {
            match rustix::io::pread(file, space, from + read as u64) {
                Ok(0) => return Err(CopyError::Source(WalkProblem::Changed)),
                Ok(count) => read += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(CopyError::Io(errno.into())),
            }
        }
        Ok(())
    }
}

/// The next bytes of a file between `from` and `end` that are no hole: where they begin and end.
fn data(file: BorrowedFd<'_>, from: u64, end: u64) -> Result<Option<(u64, u64)>, CopyError> {
    if from >= end {
        return Ok(None);
    }
    let failed = |errno: Errno| CopyError::Io(errno.into());
    let begin = match rustix::fs::seek(file, SeekFrom::Data(from)) {
        Ok(begin) => begin,
        // Either a hole follows to the end of the file, or the file has become shorter.
        Err(Errno::NXIO) => {
            let size = rustix::fs::fstat(file).map_err(failed)?.st_size;
            if u64::try_from(size).is_ok_and(|size| size >= end) {
                return Ok(None);
            }
            return Err(CopyError::Source(WalkProblem::Changed));
        }
        // A file system that does not tell.
        Err(Errno::INVAL) => return Ok(Some((from, end))),
        Err(errno) => return Err(failed(errno)),
    };
    if begin >= end {
        return Ok(None);
    }
    let hole = rustix::fs::seek(file, SeekFrom::Hole(begin)).map_err(failed)?;
    Ok(Some((begin, hole.min(end))))
}
