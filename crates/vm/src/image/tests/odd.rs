//! Trees at the edges of the format.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use firn_content::WalkLimits;

use super::{Made, Source, create, oracle};
use crate::image::{Entry, Plan, write};

#[test]
fn nothing_at_all() {
    assert_eq!(Source::new([]).check().nodes, 1);
}

#[test]
fn every_kind_at_the_root() {
    let trees = [
        Made::Directory(vec![]),
        Made::file(10),
        Made::Program(b"#!/bin/sh\n".to_vec()),
        Made::Link(b"../elsewhere".to_vec()),
    ];
    let names: [&[u8]; 4] = [b"empty", b"file", b"program", b"link"];
    let info = Source::new(names.into_iter().zip(&trees)).check();
    assert_eq!((info.size, info.nodes), (4096, 5));
}

#[test]
fn sizes_around_blocks() {
    let sizes = [
        0, 1, 31, 32, 33, 2047, 2048, 2049, 2111, 2112, 2113, 4063, 4064, 4065, 4095, 4096, 4097, 6143, 6144,
        6145, 8191, 8192, 8193, 65_535, 65_536, 65_537, 262_143, 262_145, 3_000_001,
    ];
    for first in [0, 7, 13] {
        // In different orders, so that inodes come to be at different places in their blocks.
        let names = (0..sizes.len()).map(|at| (format!("{:03}", (at + first) % 29), Made::file(sizes[at])));
        Source::one(&Made::directory(names)).check();
    }
}

#[test]
fn many_in_one_directory() {
    let files = (0..3000).map(|number| (format!("file number {number}"), Made::file(number % 97)));
    Source::one(&Made::directory(files)).check();
    let directories = (0..700).map(|number| (number.to_string(), Made::Directory(vec![])));
    Source::one(&Made::directory(directories)).check();
}

#[test]
fn directories_around_blocks() {
    // "." and ".." use 27 bytes and each name here 112, which leaves 37 of the first block.
    for last in [1, 23, 24, 25, 26, 27, 255] {
        let mut children: Vec<(Vec<u8>, Made)> = (0..36)
            .map(|number| (format!("{number:0100}").into_bytes(), Made::file(1)))
            .collect();
        children.push((vec![b'x'; last], Made::file(1)));
        Source::one(&Made::Directory(children)).check();
    }
}

#[test]
fn odd_names() {
    let longest = vec![b'n'; 255];
    let mut bytes: Vec<Vec<u8>> = (1..=255)
        .filter(|byte| !matches!(byte, b'/' | b'.'))
        .map(|byte| vec![byte])
        .collect();
    bytes.extend([longest.clone(), vec![0xFF; 255]]);
    // Around "." and "..".
    for name in [
        &b"-"[..],
        b".-",
        b"...",
        b"..a",
        b".a",
        b"..\xFF",
        b"\n\n",
        b"a",
        b"aa",
        b"a.",
        b"a-",
    ] {
        if !bytes.contains(&name.to_vec()) {
            bytes.push(name.to_vec());
        }
    }
    let made = Made::directory(bytes.iter().map(|name| (name, Made::Link(name.clone()))));
    Source::new([(longest.as_slice(), &made), (b"\xC3\x28\n", &made), (b"!", &made)]).check();
}

#[test]
fn long_links() {
    let links = [1, 2047, 2048, 2049, 4000, 4062, 4063, 4064, 4065, 4094, 4095]
        .map(|length| (length.to_string(), Made::Link(vec![b'l'; length])));
    Source::one(&Made::directory(links)).check();
}

#[test]
fn deeply_nested() {
    let mut made = Made::file(5000);
    for level in 0..60 {
        let name = format!("{level:02}{}", "d".repeat(40));
        made = Made::directory([
            (name, made),
            ("a".to_owned(), Made::file(3)),
            ("z".to_owned(), Made::Directory(vec![])),
        ]);
    }
    Source::one(&made).check();
}

#[test]
fn equal_trees_make_equal_images() {
    let mut children: Vec<(Vec<u8>, Made)> = (0..300)
        .map(|number: usize| (number.to_string().into_bytes(), Made::file(number * 31)))
        .collect();
    let one = Made::Directory(children.clone());
    let two = Made::Link(b"somewhere".to_vec());
    let first = Source::new([(&b"one"[..], &one), (b"two", &two)]).bytes();
    children.reverse();
    let one = Made::Directory(children);
    let second = Source::new([(&b"two"[..], &two), (b"one", &one)]).bytes();
    assert!(first == second);
}

#[test]
fn what_was_in_the_file_before_is_gone() {
    let made = Made::directory([("a", Made::file(9)), ("b", Made::file(70_000))]);
    let source = Source::one(&made);
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&[0xAA; 300_000], 0).unwrap();
    let info = write(&source.entries(), &file, WalkLimits::default()).unwrap();
    let mut bytes = vec![0; usize::try_from(info.size).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(file.metadata().unwrap().len(), info.size);
    assert!(bytes == source.bytes());
}

#[test]
fn an_image_on_another_file_system() {
    let files = [0, 5000, 65_536, 65_537, 262_144, 262_145, 900_001];
    let files = files.map(|size| (size.to_string(), Made::file(size)));
    let source = Source::one(&Made::directory(files));
    let Ok(file) = tempfile::tempfile_in("/dev/shm") else {
        eprintln!("skipped: needs /dev/shm as another file system");
        return;
    };
    let info = write(&source.entries(), &file, WalkLimits::default()).unwrap();
    let mut bytes = vec![0; usize::try_from(info.size).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == source.bytes());
}

/// A file of 5 GiB that is not there, in the names of a plan only.
#[test]
fn a_file_of_more_than_32_bits_is_planned() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large");
    File::create(&path).unwrap().set_len(5 << 30).unwrap();
    let entry = Entry {
        name: b"large",
        path: &path,
    };
    let plan = Plan::new(&[entry], WalkLimits::default()).unwrap();
    assert_eq!(plan.info().size, 4096 + (5 << 30));
}

#[test]
fn a_file_of_more_than_32_bits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large");
    let large = File::create(&path).unwrap();
    large.set_len((5 << 30) + 7).unwrap();
    large.write_all_at(b"the end", 5 << 30).unwrap();
    let entry = Entry {
        name: b"large",
        path: &path,
    };
    let image = dir.path().join("image");
    let file = create(&image);
    write(&[entry], &file, WalkLimits::default()).unwrap();
    let blocks = std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap());
    assert!(blocks < 1000, "holes stay holes: {blocks} blocks of 512 bytes");
    let Some(mount) = oracle::mount(&image) else {
        return;
    };
    let there = rustix::fs::openat(
        &mount,
        "large",
        rustix::fs::OFlags::RDONLY,
        rustix::fs::Mode::empty(),
    );
    let there = File::from(there.unwrap());
    assert_eq!(there.metadata().unwrap().len(), (5 << 30) + 7);
    let mut end = [0; 7];
    there.read_exact_at(&mut end, 5 << 30).unwrap();
    assert_eq!(&end, b"the end");
}
