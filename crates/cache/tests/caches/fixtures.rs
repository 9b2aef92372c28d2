//! Store objects, packed in every way, and clients that are quick to give up.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use firn_cache::{AccountClient, CacheClient, Options};
use firn_core::{AccountId, CacheUrl};
use firn_nix::narinfo::NarInfo;
use firn_nix::{Hash, NarHash, StorePath};
use firn_service::ports::{AccountCaches as _, CacheError, Caches as _, Login, Trouble};
use tokio::io::AsyncReadExt as _;

/// Loopback is allowed; waits are short, but long enough for a machine under load.
pub fn options() -> Options {
    Options {
        allow_private_networks: true,
        pause: Duration::from_millis(1),
        small_timeout: Duration::from_secs(20),
        stall_timeout: Duration::from_secs(20),
        left_alone: Duration::from_secs(3600),
        left_alone_longest: Duration::from_secs(3600),
        ..Options::default()
    }
}

pub fn client() -> AccountClient {
    client_with(options())
}

/// Of some account.
pub fn client_with(options: Options) -> AccountClient {
    CacheClient::new(options).unwrap().of(AccountId(1), None)
}

pub fn login(password: &str) -> Login {
    Login {
        user: "firn".into(),
        password: password.into(),
    }
}

pub fn path(n: u8) -> StorePath {
    StorePath::new(&[n; 20], "thing").unwrap()
}

/// An object whose "NAR" is any bytes: nobody here looks into it.
pub fn object(n: u8, nar: &[u8], compression: &str, packed: &[u8]) -> NarInfo {
    NarInfo {
        path: path(n),
        url: format!("nar/{n}.nar"),
        compression: compression.into(),
        file_hash: Some(Hash::sha256(packed)),
        file_size: Some(packed.len() as u64),
        nar_hash: NarHash::parse(&Hash::sha256(nar).to_string()).unwrap(),
        nar_size: nar.len() as u64,
        references: [path(n)].into(),
        deriver: None,
        signatures: [].into(),
        unreadable_signatures: 0,
        ca: None,
    }
}

/// The files of a cache with one object.
pub fn files(info: &NarInfo, packed: &[u8]) -> [(String, Vec<u8>); 3] {
    [
        (
            "/nix-cache-info".into(),
            b"StoreDir: /nix/store\nPriority: 30\n".to_vec(),
        ),
        (
            format!("/{}.narinfo", info.path.hash_part()),
            info.to_string().into_bytes(),
        ),
        (format!("/{}", info.url), packed.to_vec()),
    ]
}

/// Bytes that compress to about a half, and no pattern that a decoder could get right by chance.
pub fn bytes(n: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b'a' + (state >> 60) as u8
    };
    (0..n).map(step).collect()
}

pub fn pack(compression: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match compression {
        "none" => out.extend_from_slice(bytes),
        "xz" => drop(
            liblzma::bufread::XzEncoder::new(bytes, 1)
                .read_to_end(&mut out)
                .unwrap(),
        ),
        "zstd" => out = zstd::encode_all(bytes, 1).unwrap(),
        "bzip2" => {
            let mut encoder = bzip2::write::BzEncoder::new(&mut out, bzip2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap();
        }
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(&mut out, flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap();
        }
        // Meta-blocks that are not compressed (RFC 7932, section 9.2).
        "br" => {
            for (i, block) in bytes.chunks(1 << 16).enumerate() {
                // WBITS is one bit and stands before the first only.
                let header = (block.len() as u32 - 1) << 3 | 1 << 19;
                let header = if i == 0 { header << 1 } else { header };
                out.extend_from_slice(&header.to_le_bytes()[..3]);
                out.extend_from_slice(block);
            }
            out.push(3);
        }
        _ => panic!("{compression}"),
    }
    out
}

/// Reads a NAR whole.
pub async fn nar(
    client: &AccountClient,
    cache: &CacheUrl,
    login: Option<&Login>,
    info: &NarInfo,
) -> Result<Vec<u8>, CacheError> {
    let mut stream = client.nar(cache, login, info).await?;
    let mut out = Vec::new();
    let read = stream.read_to_end(&mut out).await.map(drop);
    if read.is_err() {
        // Broken for good.
        assert!(stream.read(&mut [0; 8]).await.is_err());
    }
    read.map_err(|e| e.get_ref().unwrap().downcast_ref::<CacheError>().unwrap().clone())?;
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    Ok(out)
}

/// The text of an error that does not pass, and that no login would mend.
#[track_caller]
pub fn bad<T>(result: Result<T, CacheError>) -> String {
    match result {
        Err(error) if !error.trouble.may_pass() && !is_denied(&error) => error.to_string(),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it worked"),
    }
}

/// Whether it is a login that is missing or wrong.
pub fn is_denied(error: &CacheError) -> bool {
    matches!(error.trouble, Trouble::Login { .. })
}

/// The text of an error that may pass.
#[track_caller]
pub fn unreachable<T>(result: Result<T, CacheError>) -> String {
    match result {
        Err(error) if error.trouble.may_pass() => error.to_string(),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it worked"),
    }
}
