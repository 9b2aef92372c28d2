//! `builtin:fetchurl`: one file from a URL, or with `unpack` the tree of a NAR, which may be compressed with xz.

use std::fs;
use std::io::{self, BufReader, Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::download::{self, Fault};
use crate::error::OfFile as _;
use crate::{BuiltinError, Call, restore};

/// Bytes that are moved at once.
const CHUNK: usize = 64 << 10;

pub(crate) fn fetch_url(call: &Call<'_>) -> Result<(), BuiltinError> {
    let out = call.path("out")?;
    let url = text("url", call.get("url")?)?;
    let unpack = call.is_set("unpack");
    let fetch = |body: &mut dyn Read| -> Result<(), Fault> {
        // Of an attempt that broke off.
        clear(&out)?;
        if !unpack {
            return copy(body, &out);
        }
        if url.ends_with(".xz") {
            let body = BufReader::with_capacity(CHUNK, body);
            restore::restore(&mut liblzma::bufread::XzDecoder::new_multi_decoder(body), &out)
        } else {
            restore::restore(body, &out)
        }
    };
    download::download(url, call.variables, fetch)?;
    if call.is_set("executable") {
        fs::set_permissions(&out, fs::Permissions::from_mode(0o755)).of_file("making executable", &out)?;
    }
    Ok(())
}

fn text<'a>(name: &'static str, value: &'a [u8]) -> Result<&'a str, BuiltinError> {
    std::str::from_utf8(value).map_err(|error| BuiltinError::Invalid {
        name,
        why: error.to_string(),
    })
}

fn clear(out: &Path) -> Result<(), Fault> {
    let removed = match fs::symlink_metadata(out) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(out),
        Ok(_) => fs::remove_file(out),
        Err(_) => Ok(()),
    };
    removed.of_file("removing", out).map_err(Fault::Here)
}

fn copy(body: &mut dyn Read, out: &Path) -> Result<(), Fault> {
    let here = |what| {
        move |error: io::Error| {
            Fault::Here(BuiltinError::File {
                what,
                path: out.to_owned(),
                source: error,
            })
        }
    };
    let mut file = fs::File::create_new(out).map_err(here("creating"))?;
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = match body.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Fault::There(error)),
        };
        file.write_all(chunk.get(..length).unwrap_or_default())
            .map_err(here("writing"))?;
    }
}
