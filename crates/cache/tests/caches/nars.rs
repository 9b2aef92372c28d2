//! Unpacking, and what is wrong with files.

use firn_nix::Hash;

use crate::fixtures::{bad, bytes, client, files, nar, object, pack};
use crate::server::{Server, Step, with};

const ALL: [&str; 6] = ["none", "xz", "zstd", "bzip2", "gzip", "br"];

#[tokio::test]
async fn every_compression() {
    for compression in ALL {
        for size in [1, 1000, 65_536, 300_000] {
            let content = bytes(size);
            let packed = pack(compression, &content);
            let info = object(1, &content, compression, &packed);
            let server = Server::files(files(&info, &packed)).await;
            let out = nar(&client(), &server.url(""), None, &info).await;
            assert!(out.unwrap() == content, "{compression} {size}");
        }
    }
}

#[tokio::test]
async fn byte_by_byte() {
    for compression in ALL {
        let content = bytes(700);
        let packed = pack(compression, &content);
        let info = object(1, &content, compression, &packed);
        let server = Server::start(move |_| {
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            let chunk = |b: &u8| Step::Send([b"1\r\n", &[*b][..], b"\r\n"].concat());
            let mut steps = vec![Step::Send(head)];
            steps.extend(packed.iter().map(chunk));
            steps.push(Step::Send(b"0\r\n\r\n".to_vec()));
            steps
        })
        .await;
        let out = nar(&client(), &server.url(""), None, &info).await;
        assert!(out.unwrap() == content, "{compression}");
    }
}

#[tokio::test]
async fn concatenated_members_are_one_file() {
    let (one, two) = (bytes(10_000), bytes(5000));
    let content = [&one[..], &two].concat();
    for (compression, between) in [
        ("xz", &b""[..]),
        ("xz", b"\0\0\0\0"),
        ("zstd", b""),
        // A frame to skip.
        ("zstd", b"\x50\x2a\x4d\x18\x03\0\0\0abc"),
        ("bzip2", b""),
        ("gzip", b""),
    ] {
        let packed = [&pack(compression, &one)[..], between, &pack(compression, &two)].concat();
        let info = object(1, &content, compression, &packed);
        let server = Server::files(files(&info, &packed)).await;
        let out = nar(&client(), &server.url(""), None, &info).await;
        assert!(out.unwrap() == content, "{compression}");
    }
}

#[tokio::test]
async fn a_file_that_is_not_the_announced_one() {
    let content = bytes(50_000);
    for compression in ALL {
        let packed = pack(compression, &content);
        let info = object(1, &content, compression, &packed);
        let mut wrong_hash = info.clone();
        wrong_hash.file_hash = Some(Hash::sha256(b"other"));
        let mut wrong_size = info.clone();
        wrong_size.file_size = Some(packed.len() as u64 + 1);
        let server = Server::files(files(&info, &packed)).await;
        let text = bad(nar(&client(), &server.url(""), None, &wrong_hash).await);
        assert!(text.contains("hash"), "{text}");
        bad(nar(&client(), &server.url(""), None, &wrong_size).await);
        wrong_size.file_size = Some(packed.len() as u64 - 1);
        bad(nar(&client(), &server.url(""), None, &wrong_size).await);
        for at in [0, packed.len() / 2, packed.len() - 1] {
            let mut flipped = packed.clone();
            flipped[at] ^= 1;
            let server = Server::files(files(&info, &flipped)).await;
            bad(nar(&client(), &server.url(""), None, &info).await);
        }
    }
}

#[tokio::test]
async fn files_that_end_early_or_go_on() {
    let content = bytes(50_000);
    for compression in ALL {
        let packed = pack(compression, &content);
        let cut = packed[..packed.len() - 1].to_vec();
        let half = packed[..packed.len() / 2].to_vec();
        let garbage = [&packed[..], b"garbage!"].concat();
        for file in [vec![], cut, half, garbage] {
            // Hash and size of the narinfo are those of the wrong file.
            let info = object(1, &content, compression, &file);
            let server = Server::files(files(&info, &file)).await;
            bad(nar(&client(), &server.url(""), None, &info).await);
        }
    }
}

#[tokio::test]
async fn too_much_and_too_little_comes_out() {
    let content = bytes(50_000);
    for compression in ALL {
        let packed = pack(compression, &content);
        for size in [1, 49_999, 50_001, 1 << 40] {
            let mut info = object(1, &content, compression, &packed);
            info.nar_size = size;
            let server = Server::files(files(&info, &packed)).await;
            let text = bad(nar(&client(), &server.url(""), None, &info).await);
            let many = if size < 50_000 {
                "more bytes"
            } else {
                "fewer bytes"
            };
            assert!(text.contains(many), "{compression} {size}: {text}");
        }
    }
}

#[tokio::test]
async fn bombs() {
    let zeros = vec![0; 32 << 20];
    for compression in ["xz", "zstd", "bzip2", "gzip"] {
        let packed = pack(compression, &zeros);
        let info = object(1, &zeros[..200_000], compression, &packed);
        let server = Server::files(files(&info, &packed)).await;
        let text = bad(nar(&client(), &server.url(""), None, &info).await);
        assert!(text.contains("more bytes"), "{text}");
    }
}

#[tokio::test]
async fn decoders_that_want_too_much_memory() {
    let content = bytes(1000);
    let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
    options.dict_size(1 << 30);
    let mut filters = liblzma::stream::Filters::new();
    filters.lzma2(&options);
    let xz = {
        use std::io::Read as _;
        // An encoder with such a dictionary would need the memory itself: the header says it, with its CRC.
        let mut small = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
        small.dict_size(4096);
        let mut filters = liblzma::stream::Filters::new();
        filters.lzma2(&small);
        let stream =
            liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc32).unwrap();
        let mut out = Vec::new();
        liblzma::bufread::XzEncoder::new_stream(&content[..], stream)
            .read_to_end(&mut out)
            .unwrap();
        // Stream header 12; block header: size, flags, filter 0x21, size 1, dictionary, padding, CRC.
        assert_eq!(&out[14..16], [0x21, 1]);
        out[16] = 36;
        let end = 12 + (usize::from(out[12]) + 1) * 4;
        let mut crc = flate2::Crc::new();
        crc.update(&out[12..end - 4]);
        out[end - 4..end].copy_from_slice(&crc.sum().to_le_bytes());
        out
    };
    // Magic, a header with a window, 2^31 bytes, and a raw block.
    let zstd = [&b"\x28\xb5\x2f\xfd\x00\xa8\x09\0\0"[..], b"x"].concat();
    // The "large window" extension of brotli.
    let br = vec![0x11, 0x1e, 0x03];
    for (compression, packed) in [("xz", xz), ("zstd", zstd), ("br", br)] {
        let info = object(1, &content, compression, &packed);
        let server = Server::files(files(&info, &packed)).await;
        let text = bad(nar(&client(), &server.url(""), None, &info).await);
        assert!(text.contains("cannot be unpacked"), "{compression}: {text}");
        println!("{text}");
    }
}

#[tokio::test]
async fn unknown_compressions_and_encodings() {
    let content = bytes(100);
    let info = object(1, &content, "lzip", &content);
    let server = Server::files(files(&info, &content)).await;
    assert!(bad(nar(&client(), &server.url(""), None, &info).await).contains("lzip"));
    assert_eq!(server.count(), 0);

    let info = object(1, &content, "none", &content);
    let server = Server::start(move |_| with("200 OK", "Content-Encoding: rot13\r\n", &content)).await;
    assert!(bad(nar(&client(), &server.url(""), None, &info).await).contains("Content-Encoding"));
}

/// As every NAR begins.
fn like_a_nar(size: usize) -> Vec<u8> {
    [&b"\x0d\0\0\0\0\0\0\0nix-archive-1\0\0\0"[..], &bytes(size)].concat()
}

#[tokio::test]
async fn what_the_bytes_are_decides_and_not_what_they_are_called() {
    let content = like_a_nar(50_000);
    for said in ALL {
        // Brotli cannot be recognised.
        for is in ["none", "xz", "zstd", "bzip2", "gzip"] {
            if said == "br" && matches!(is, "bzip2" | "gzip") {
                continue;
            }
            let packed = pack(is, &content);
            let info = object(1, &content, said, &packed);
            let server = Server::files(files(&info, &packed)).await;
            let out = nar(&client(), &server.url(""), None, &info).await;
            assert!(out.unwrap() == content, "{is} called {said}");
            assert_eq!(server.count(), 1);
        }
    }
}

#[tokio::test]
async fn files_that_are_encoded_on_the_way_though_nobody_asked() {
    let content = like_a_nar(50_000);
    for compression in ALL {
        for encoding in ["gzip", "br", "zstd", "xz"] {
            let packed = pack(compression, &content);
            let info = object(1, &content, compression, &packed);
            let headers = format!("Content-Encoding: {encoding}\r\n");
            // As it says, and as a web server says it that goes by the name of the file.
            let mut bodies = vec![pack(encoding, &packed)];
            if compression != "br" && encoding != "br" {
                bodies.push(packed);
            }
            for body in bodies {
                let headers = headers.clone();
                let server = Server::start(move |_| with("200 OK", &headers, &body)).await;
                let out = nar(&client(), &server.url(""), None, &info).await;
                assert!(out.unwrap() == content, "{compression} in {encoding}");
            }
        }
    }
    // More than can be.
    let bomb = pack("gzip", &vec![b'x'; 9 << 20]);
    let info = object(1, &content, "none", &content);
    let server = Server::start(move |_| with("200 OK", "Content-Encoding: gzip\r\n", &bomb)).await;
    bad(nar(&client(), &server.url(""), None, &info).await);
}

#[tokio::test]
async fn a_file_without_announced_size_and_hash() {
    let content = bytes(50_000);
    for compression in ALL {
        let packed = pack(compression, &content);
        let mut info = object(1, &content, compression, &packed);
        (info.file_hash, info.file_size) = (None, None);
        let server = Server::files(files(&info, &packed)).await;
        assert!(nar(&client(), &server.url(""), None, &info).await.unwrap() == content);
    }
}
