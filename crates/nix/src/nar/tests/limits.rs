use super::{Event, Tree, problem, read};
use crate::nar::{NarError, NarLimits, NarReader, NarVisitor, NarWriter, Problem, Skip};

fn nested(depth: usize, innermost: Tree) -> Tree {
    (0..depth).fold(innermost, |tree, _| {
        Tree::Directory([(b"d".to_vec(), tree)].into())
    })
}

#[test]
fn depth() {
    for innermost in [
        Tree::Regular(false, vec![]),
        Tree::Symlink(b"x".to_vec()),
        Tree::Directory(Default::default()),
    ] {
        let deepest = nested(255, innermost.clone()).nar();
        read(&deepest, 1000, NarLimits::default()).unwrap();
        let error = problem(&nested(256, innermost).nar());
        assert_eq!(error.problem, Problem::Depth(256));
    }
}

#[test]
fn entries_and_bytes() {
    let tree = Tree::Directory(
        (0..9u8)
            .map(|n| (vec![b'a' + n], Tree::Regular(false, vec![n; 100])))
            .collect(),
    );
    let nar = tree.nar();
    let limits = |entries, total_bytes| NarLimits {
        entries,
        total_bytes,
        ..NarLimits::default()
    };
    let size = nar.len() as u64;
    read(&nar, 64, limits(10, size)).unwrap();
    let error = read(&nar, 64, limits(9, size)).unwrap_err();
    assert_eq!(error.problem, Problem::Entries(9));
    for less in [size - 1, size - 100, 100, 0] {
        let error = read(&nar, 64, limits(10, less)).unwrap_err();
        assert_eq!(error.problem, Problem::TotalBytes(less));
        assert!(error.offset <= less);
    }
}

#[test]
fn a_file_too_large_is_refused_when_announced() {
    let mut writer = NarWriter::new(Vec::new());
    writer.regular(false, 1_000_000).unwrap();
    let mut reader = NarReader::new(NarLimits {
        total_bytes: 1_000_000,
        ..NarLimits::default()
    });
    let error = reader.push(&writer.into_inner(), &mut Skip).unwrap_err();
    assert!(matches!(error, NarError::Malformed(m) if m.problem == Problem::TotalBytes(1_000_000)));
}

#[test]
fn contents_are_passed_on_as_they_come() {
    let nar = Tree::Regular(false, vec![7; 10_000]).nar();
    let mut reader = NarReader::new(NarLimits::default());
    let mut events = super::Events::default();
    reader.push(&nar[..5000], &mut events).unwrap();
    assert!(matches!(&events.0[..], [Event::Regular(false, 10_000), Event::Data(data)] if data.len() > 4800));
}

struct Refuse;

impl NarVisitor for Refuse {
    type Error = &'static str;

    fn directory(&mut self) -> Result<(), &'static str> {
        Ok(())
    }
    fn entry(&mut self, _: &[u8]) -> Result<(), &'static str> {
        Err("no")
    }
    fn end_directory(&mut self) -> Result<(), &'static str> {
        Ok(())
    }
    fn regular(&mut self, _: bool, _: u64) -> Result<(), &'static str> {
        Ok(())
    }
    fn data(&mut self, _: &[u8]) -> Result<(), &'static str> {
        Ok(())
    }
    fn end_regular(&mut self) -> Result<(), &'static str> {
        Ok(())
    }
    fn symlink(&mut self, _: &[u8]) -> Result<(), &'static str> {
        Ok(())
    }
}

#[test]
fn after_an_error_nothing_goes_on() {
    let nar = nested(1, Tree::Symlink(b"x".to_vec())).nar();
    let mut reader = NarReader::new(NarLimits::default());
    assert_eq!(reader.push(&nar, &mut Refuse), Err(NarError::Visitor("no")));
    assert!(!reader.is_complete());
    let again = reader.push(&nar, &mut Refuse).unwrap_err();
    assert!(matches!(again, NarError::Malformed(m) if m.problem == Problem::Failed));
    assert_eq!(reader.finish().unwrap_err().problem, Problem::Failed);
}

#[test]
fn the_writer_keeps_sizes() {
    let mut writer = NarWriter::new(Vec::new());
    writer.regular(false, 3).unwrap();
    assert!(writer.data(b"four").is_err());
    let mut writer = NarWriter::new(Vec::new());
    writer.regular(false, 3).unwrap();
    writer.data(b"2b").unwrap();
    assert!(writer.end_regular().is_err());
}
