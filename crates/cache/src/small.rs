//! Small files of a cache on the network, whole and within a short time.

use std::pin::pin;

use bytes::Bytes;
use firn_service::ports::{CacheError, Login};
use futures_util::stream;
use reqwest::Url;
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, sleep, timeout};

use crate::Options;
use crate::fault::Fault;
use crate::http::{Http, Request, content_encoding};
use crate::pause;
use crate::recognise::Recognising;
use crate::site::Site;
use crate::unpack::{Unpacked, What, from_io};

/// Files up to this size, in bytes, need no place among the large ones.
const USUAL: usize = 256 << 10;
/// A small file, or what was answered in its place (404 and the like).
pub(crate) type Small = Result<Vec<u8>, u16>;

/// Gets the file. `limit` is in bytes, before and after `Content-Encoding`.
pub(crate) async fn get(
    http: &Http,
    options: &Options,
    site: &Site,
    url: &Url,
    login: Option<&Login>,
    limit: usize,
) -> Result<Small, CacheError> {
    let _place = site.small_place().await?;
    let pass = site.admit()?;
    let request = Request {
        url,
        login,
        from: 0,
        entity: None,
    };
    let begun = Instant::now();
    let mut attempt = 1;
    let result = loop {
        let one = timeout(options.small_timeout, whole(http, request, limit)).await;
        let fault = match one {
            Ok(Err(fault @ Fault::Passing { .. })) => fault,
            Ok(result) => break result,
            Err(_) => {
                let seconds = options.small_timeout.as_secs_f32();
                Fault::passing(format!("does not answer within {seconds} s"))
            }
        };
        let pause = pause::before_next(options.pause, attempt, &fault);
        let last = attempt >= options.attempts || pass.is_probe();
        if last || site.is_left_alone() || begun.elapsed() + pause >= options.small_timeout {
            break Err(fault);
        }
        sleep(pause).await;
        attempt += 1;
    };
    site.note(pass.since(), result.as_ref().err());
    match result {
        Ok(file) => Ok(Ok(file)),
        Err(Fault::Missing { status }) => Ok(Err(status)),
        Err(fault) => Err(fault.into_error(site.base())),
    }
}

async fn whole(http: &Http, request: Request<'_>, limit: usize) -> Result<Vec<u8>, Fault> {
    let too_large = || Fault::bad(format!("sends a file of more than {limit} bytes"));
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
            large = Some(http.large_place().await);
        }
        file.extend_from_slice(&chunk);
    }
    if encoding == "identity" {
        return Ok(file);
    }
    let decoder = Recognising::encoding(&encoding)
        .ok_or_else(|| Fault::bad("sends a file with an unknown Content-Encoding"))?;
    let packed = stream::iter([Ok(Bytes::from(file))]);
    let what = What {
        cache: String::new(),
        file: "sends a file that".into(),
    };
    let mut unpacked = pin!(Unpacked::new(packed, decoder, limit as u64, false, what));
    let mut file = Vec::new();
    let read = unpacked.read_to_end(&mut file).await;
    read.map_err(|e| Fault::Final(from_io(e).trouble))?;
    Ok(file)
}
