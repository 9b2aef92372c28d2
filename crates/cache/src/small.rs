//! Small files of a cache on the network, whole and within a short time.

use std::pin::pin;

use bytes::Bytes;
use firn_service::ports::{CacheError, Login};
use futures_util::stream;
use reqwest::Url;
use tokio::io::AsyncReadExt as _;
use tokio::time::{sleep, timeout};

use crate::Options;
use crate::decoder::Decoder;
use crate::fault::Fault;
use crate::http::{Http, Request, content_encoding};
use crate::pause;
use crate::site::Site;
use crate::unpack::Unpacked;

/// Files up to this size, in bytes, need no place among the large ones.
const USUAL: usize = 256 << 10;
/// How often it is tried.
const ATTEMPTS: u32 = 2;

/// Gets the file; `None` when there is none. `limit` is in bytes, before and after `Content-Encoding`.
pub(crate) async fn get(
    http: &Http,
    options: &Options,
    site: &Site,
    url: &Url,
    login: Option<&Login>,
    limit: usize,
) -> Result<Option<Vec<u8>>, CacheError> {
    let _place = site.small_place().await?;
    let _pass = site.admit()?;
    let request = Request {
        url,
        login,
        from: 0,
        entity: None,
    };
    let attempts = async {
        let mut attempt = 1;
        loop {
            match whole(http, request, limit).await {
                Err(fault @ Fault::Passing { .. }) if attempt < ATTEMPTS => {
                    sleep(pause::before_next(options.pause, attempt, &fault)).await;
                    attempt += 1;
                }
                result => return result,
            }
        }
    };
    let result = timeout(options.small_timeout, attempts)
        .await
        .unwrap_or_else(|_| {
            let seconds = options.small_timeout.as_secs_f32();
            Err(Fault::passing(format!("does not answer within {seconds} s")))
        });
    site.note(result.as_ref().err());
    match result {
        Ok(file) => Ok(Some(file)),
        Err(Fault::Missing) => Ok(None),
        Err(fault) => Err(fault.into_error(site.base())),
    }
}

async fn whole(http: &Http, request: Request<'_>, limit: usize) -> Result<Vec<u8>, Fault> {
    let too_large = || Fault::Bad(format!("sends a file of more than {limit} bytes"));
    let mut response = http.get(request).await?;
    let encoding = content_encoding(&response)?;
    if response.content_length().is_some_and(|n| n > limit as u64) {
        return Err(too_large());
    }
    let (mut file, mut large) = (Vec::new(), None);
    while let Some(chunk) = response.chunk().await? {
        if file.len() + chunk.len() > limit {
            return Err(too_large());
        }
        if large.is_none() && (encoding != "identity" || file.len() + chunk.len() > USUAL) {
            large = http.large.acquire().await.ok();
        }
        file.extend_from_slice(&chunk);
    }
    if encoding == "identity" {
        return Ok(file);
    }
    let decoder = Decoder::new(&encoding)
        .ok()
        .flatten()
        .ok_or_else(|| Fault::Bad("sends a file with an unknown Content-Encoding".into()))?;
    let packed = stream::iter([Ok(Bytes::from(file))]);
    let mut unpacked = pin!(Unpacked::new(packed, decoder, limit as u64, false, String::new()));
    let mut file = Vec::new();
    unpacked
        .read_to_end(&mut file)
        .await
        .map_err(|e| Fault::Bad(format!("sends a file that{e}")))?;
    Ok(file)
}
