//! The download of a NAR file: resumed when the connection breaks, given up when it gets nowhere.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use firn_service::ports::{CacheError, Login};
use reqwest::header::{CONTENT_RANGE, ETAG, HeaderValue};
use reqwest::{Response, Url};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, timeout};

use crate::Options;
use crate::breaker::Since;
use crate::fault::Fault;
use crate::http::{Http, Request, content_encoding};
use crate::pause;
use crate::site::Site;

/// After so many more bytes, attempts are counted anew.
const PROGRESS: u64 = 4 << 20;

/// A file on its way. Dropped, it ends the request.
pub(crate) struct Download {
    http: Arc<Http>,
    options: Arc<Options>,
    site: Arc<Site>,
    url: Url,
    login: Option<Login>,
    _place: OwnedSemaphorePermit,
    response: Option<Response>,
    /// Bytes handed out.
    position: u64,
    /// Bytes to throw away, from a cache that began again.
    skip: u64,
    /// Bytes of the file, when known.
    size: Option<u64>,
    /// The strong entity tag of the first answer.
    entity: Option<HeaderValue>,
    /// The `Content-Encoding` of the first answer: `identity` for none.
    encoding: Option<String>,
    since: Since,
    attempt: u32,
    counted_from: u64,
    /// Time spent waiting for the cache.
    waited: Duration,
    /// Bytes that came, also those that came twice.
    received: u64,
}

impl Download {
    /// Asks for the file. `size` is what the narinfo says.
    pub(crate) async fn start(
        http: Arc<Http>,
        options: Arc<Options>,
        site: Arc<Site>,
        url: Url,
        login: Option<Login>,
        size: Option<u64>,
    ) -> Result<Self, Result<Fault, CacheError>> {
        let place = site.nar_place().await.map_err(Err)?;
        let guard = site.clone();
        let pass = guard.admit_nar().map_err(Err)?;
        let mut download = Self {
            http,
            site,
            url,
            login,
            _place: place,
            response: None,
            position: 0,
            skip: 0,
            size,
            entity: None,
            encoding: None,
            since: pass.since(),
            attempt: 1,
            counted_from: 0,
            waited: Duration::ZERO,
            received: 0,
            options,
        };
        match download.connect().await {
            Ok(()) => Ok(download),
            Err(fault) => Err(Ok(fault)),
        }
    }

    /// The `Content-Encoding` of what comes, when there is one.
    pub(crate) fn encoding(&self) -> Option<&str> {
        self.encoding.as_deref().filter(|name| *name != "identity")
    }

    /// The next bytes; `None` at the end of the file.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            self.connect().await?;
            let Some(mut response) = self.response.take() else {
                continue;
            };
            let broken = match self.wait(response.chunk()).await {
                Ok(Some(mut chunk)) => {
                    self.response = Some(response);
                    self.received += chunk.len() as u64;
                    let skipped = self.skip.min(chunk.len() as u64);
                    self.skip -= skipped;
                    let chunk = chunk.split_off(usize::try_from(skipped).unwrap_or(usize::MAX));
                    if chunk.is_empty() {
                        continue;
                    }
                    self.position += chunk.len() as u64;
                    return Ok(Some(chunk));
                }
                Ok(None) if self.skip == 0 && self.size.is_none_or(|size| self.position >= size) => {
                    self.site.note_nar(self.since, None);
                    return Ok(None);
                }
                Ok(None) => Fault::passing("ends a file too early"),
                Err(fault) => fault,
            };
            self.again(broken).await?;
        }
    }

    /// Makes sure that an answer is there to read from.
    async fn connect(&mut self) -> Result<(), Fault> {
        while self.response.is_none() {
            let (http, url, login, entity) = (
                self.http.clone(),
                self.url.clone(),
                self.login.clone(),
                self.entity.clone(),
            );
            let request = Request {
                url: &url,
                login: login.as_ref(),
                from: self.position,
                entity: entity.as_ref(),
            };
            match self.wait(http.get(request)).await {
                Ok(response) => {
                    self.accept(&response)?;
                    self.response = Some(response);
                }
                Err(fault) => self.again(fault).await?,
            }
        }
        Ok(())
    }

    /// How much waiting what came so far is worth. What the cache says about the file's size does not count.
    fn allowed(&self) -> Duration {
        let earned = Duration::from_secs(self.received / self.options.slowest.max(1));
        self.options.grace.saturating_add(earned)
    }

    /// Waits for the cache, but neither too long at once nor too long in all.
    async fn wait<T, E: Into<Fault>>(
        &mut self,
        what: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Fault> {
        let left = self.allowed().saturating_sub(self.waited);
        let since = Instant::now();
        let result = timeout(left.min(self.options.stall_timeout), what).await;
        self.waited += since.elapsed();
        match result {
            Ok(result) => result.map_err(Into::into),
            Err(_) => Err(Fault::passing("has gone silent in the middle of a file")),
        }
    }

    /// Pauses before the next attempt, or gives up.
    async fn again(&mut self, fault: Fault) -> Result<(), Fault> {
        self.response = None;
        if !matches!(fault, Fault::Passing { .. }) {
            self.site.note_nar(self.since, Some(&fault));
            return Err(fault);
        }
        if self.position - self.counted_from >= PROGRESS {
            self.counted_from = self.position;
            self.attempt = 1;
            // As good as a whole file.
            self.site.note_nar(self.since, None);
        }
        if self.waited >= self.allowed() {
            self.site.note_nar(self.since, Some(&fault));
            return Err(Fault::passing("is too slow"));
        }
        if self.attempt >= self.options.attempts {
            self.site.note_nar(self.since, Some(&fault));
            return Err(fault);
        }
        let pause = pause::before_next(self.options.pause, self.attempt, &fault);
        self.attempt += 1;
        self.waited += pause;
        sleep(pause).await;
        Ok(())
    }

    /// Whether the answer continues what we have.
    fn accept(&mut self, response: &Response) -> Result<(), Fault> {
        let encoding = content_encoding(response)?;
        if self.encoding.as_ref().is_some_and(|first| *first != encoding) {
            return Err(Fault::bad("changed a file while it was sent"));
        }
        if self.encoding.is_none() && encoding != "identity" {
            // What the narinfo says is the size of another form.
            self.size = None;
        }
        self.encoding = Some(encoding);
        let etag = response
            .headers()
            .get(ETAG)
            .filter(|tag| !tag.as_bytes().starts_with(b"W/"));
        if let (Some(old), Some(new)) = (&self.entity, etag)
            && old != new
        {
            return Err(Fault::bad("changed a file while it was sent"));
        }
        let size = if response.status() == 206 {
            let range = response
                .headers()
                .get(CONTENT_RANGE)
                .and_then(|r| r.to_str().ok());
            let (start, size) = range
                .and_then(content_range)
                .ok_or_else(|| Fault::bad("sends a part without saying which"))?;
            if start != self.position {
                return Err(Fault::bad("sends another part than was asked for"));
            }
            self.skip = 0;
            size
        } else {
            self.skip = self.position;
            response.content_length()
        };
        if let (Some(expected), Some(size)) = (self.size, size)
            && expected != size
        {
            return Err(Fault::bad(format!(
                "has a file of {size} bytes that should have {expected}"
            )));
        }
        self.size = self.size.or(size);
        self.entity = self.entity.take().or_else(|| etag.cloned());
        Ok(())
    }
}

/// `bytes <first>-<last>/<size or *>` (RFC 9110, section 14.4): first and size.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    let size = match size {
        "*" => None,
        size => Some(size.parse().ok()?),
    };
    Some((first.parse().ok()?, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for bad in [
            "",
            "bytes",
            "bytes */10",
            "items 1-2/3",
            "bytes 1-2",
            "bytes x-2/3",
        ] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }
}
