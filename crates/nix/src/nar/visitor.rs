use std::convert::Infallible;

/// The events of one tree, in the order in which a NAR holds them.
///
/// A node is `directory`, then for each child `entry` and the child's node, then `end_directory`; or `regular`, `data` as
/// often as needed to add up to the announced size, `end_regular`; or `symlink`. Names and targets are bytes. A
/// [`NarReader`](super::NarReader) calls in this order with valid names in ascending order; an error ends the reading.
pub trait NarVisitor {
    /// Why a visitor gives up.
    type Error;

    /// A directory begins.
    ///
    /// # Errors
    /// Whatever the visitor runs into.
    fn directory(&mut self) -> Result<(), Self::Error>;

    /// The next node is the child `name` of the innermost open directory.
    ///
    /// # Errors
    /// Whatever the visitor runs into.
    fn entry(&mut self, name: &[u8]) -> Result<(), Self::Error>;

    /// The innermost open directory has no more children.
    ///
    /// # Errors
    /// Whatever the visitor runs into.
    fn end_directory(&mut self) -> Result<(), Self::Error>;

    /// A regular file of `size` bytes begins.
    ///
    /// # Errors
    /// Whatever the visitor runs into.
    fn regular(&mut self, executable: bool, size: u64) -> Result<(), Self::Error>;

    /// The next bytes of the file, never empty.
    ///
    /// # Errors
    /// Whatever the visitor runs into.
    fn data(&mut self, chunk: &[u8]) -> Result<(), Self::Error>;

    /// The file is complete.
    ///
    /// # Errors
    /// Whatever the visitor runs into.
    fn end_regular(&mut self) -> Result<(), Self::Error>;

    /// A symbolic link.
    ///
    /// # Errors
    /// Whatever the visitor runs into.
    fn symlink(&mut self, target: &[u8]) -> Result<(), Self::Error>;
}

impl<V: NarVisitor + ?Sized> NarVisitor for &mut V {
    type Error = V::Error;

    fn directory(&mut self) -> Result<(), Self::Error> {
        (**self).directory()
    }

    fn entry(&mut self, name: &[u8]) -> Result<(), Self::Error> {
        (**self).entry(name)
    }

    fn end_directory(&mut self) -> Result<(), Self::Error> {
        (**self).end_directory()
    }

    fn regular(&mut self, executable: bool, size: u64) -> Result<(), Self::Error> {
        (**self).regular(executable, size)
    }

    fn data(&mut self, chunk: &[u8]) -> Result<(), Self::Error> {
        (**self).data(chunk)
    }

    fn end_regular(&mut self) -> Result<(), Self::Error> {
        (**self).end_regular()
    }

    fn symlink(&mut self, target: &[u8]) -> Result<(), Self::Error> {
        (**self).symlink(target)
    }
}

/// A visitor that looks at nothing: for checking an archive, or for finding its end in a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skip;

impl NarVisitor for Skip {
    type Error = Infallible;

    fn directory(&mut self) -> Result<(), Infallible> {
        Ok(())
    }

    fn entry(&mut self, _: &[u8]) -> Result<(), Infallible> {
        Ok(())
    }

    fn end_directory(&mut self) -> Result<(), Infallible> {
        Ok(())
    }

    fn regular(&mut self, _: bool, _: u64) -> Result<(), Infallible> {
        Ok(())
    }

    fn data(&mut self, _: &[u8]) -> Result<(), Infallible> {
        Ok(())
    }

    fn end_regular(&mut self) -> Result<(), Infallible> {
        Ok(())
    }

    fn symlink(&mut self, _: &[u8]) -> Result<(), Infallible> {
        Ok(())
    }
}
