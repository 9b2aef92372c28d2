use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::{Events, Tree, read};
use crate::nar::{NarLimits, NarReader, Skip};

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(
            prop_oneof![Just(b'a'), Just(b'.'), Just(b'B'), Just(0xff), Just(b'\n')],
            1..4
        ),
        vec(1u8.., 1..20),
        vec(1u8.., 250..256),
    ]
    .prop_map(|mut name| {
        for byte in &mut name {
            if *byte == b'/' {
                *byte = b'_';
            }
        }
        name
    })
    .prop_filter("reserved", |name| name != b"." && name != b"..")
}

pub(super) fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        (any::<bool>(), vec(any::<u8>(), 0..40)).prop_map(|(x, data)| Tree::Regular(x, data)),
        vec(1u8.., 1..40).prop_map(Tree::Symlink),
        Just(Tree::Directory(Default::default())),
    ];
    leaf.prop_recursive(6, 40, 6, |node| {
        btree_map(name(), node, 0..6).prop_map(Tree::Directory)
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_in_any_pieces(tree in tree(), piece in 1usize..100, tail in vec(any::<u8>(), 0..20)) {
        let mut nar = tree.nar();
        let mut events = Events::default();
        tree.show(&mut events).unwrap();
        nar.extend_from_slice(&tail);
        prop_assert_eq!(read(&nar, piece, NarLimits::default()), Ok((events, tail.len())));
    }

    #[test]
    fn bytes_to_come_never_reach_beyond_the_end(tree in tree()) {
        let nar = tree.nar();
        let mut reader = NarReader::new(NarLimits::default());
        let mut at = 0;
        let mut steps = 0;
        while !reader.is_complete() {
            let next = at + reader.bytes_to_come() as usize;
            prop_assert!(next <= nar.len(), "{} of {}", next, nar.len());
            prop_assert!(next > at);
            prop_assert_eq!(reader.push(&nar[at..next], &mut Skip).unwrap(), next - at);
            at = next;
            steps += 1;
        }
        prop_assert_eq!(at, nar.len());
        prop_assert!(steps <= nar.len() / 8);
    }

    #[test]
    fn damage_is_an_error_or_another_tree_but_never_a_panic(
        tree in tree(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        piece in 1usize..50,
    ) {
        let mut nar = tree.nar();
        for (index, byte) in changes {
            let at = index.index(nar.len());
            nar[at] = byte;
        }
        let whole = read(&nar, nar.len(), NarLimits::default());
        prop_assert_eq!(&read(&nar, piece, NarLimits::default()), &whole);
        if let Ok((_, left)) = whole {
            // Accepted means canonical: writing the tree again gives the same bytes.
            let mut again = crate::nar::NarWriter::new(Vec::new());
            NarReader::new(NarLimits::default()).push(&nar, &mut again).unwrap();
            prop_assert_eq!(again.into_inner(), &nar[..nar.len() - left]);
        }
    }

    #[test]
    fn noise_is_never_a_panic(noise in vec(any::<u8>(), 0..200)) {
        prop_assert!(read(&noise, 9, NarLimits::default()).is_err());
    }
}
