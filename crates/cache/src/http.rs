//! One HTTP request, with its redirects.

use std::time::Duration;

use firn_service::ports::{CacheError, Login};
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, HeaderValue, IF_RANGE, LOCATION, RANGE, RETRY_AFTER,
};
use reqwest::{Client, Response, Url, redirect};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::Options;
use crate::address::{followable, same_host};
use crate::fault::Fault;
use crate::network::{PrivateNetwork, Resolver, is_elsewhere};
use crate::tls;

/// Most redirects that are followed.
const MAX_REDIRECTS: usize = 5;
/// Longest that a cache may ask to be left alone between two attempts.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(30);

/// Most bytes of an answer that are read only to keep its connection, and the longest wait for them.
const LONGEST_REST: usize = 16 << 10;
const LONGEST_FINISH: Duration = Duration::from_secs(1);

/// Most files of more than a usual size that are kept in memory at once, from all caches.
const LARGE_AT_ONCE: usize = 8;

/// The HTTP client: connections, and whom it talks to.
pub(crate) struct Http {
    client: Client,
    allow_private: bool,
    /// Places for files that are small, but not very small: they are kept in memory whole.
    pub large: Semaphore,
}

/// A request for a file.
#[derive(Clone, Copy)]
pub(crate) struct Request<'r> {
    pub url: &'r Url,
    pub login: Option<&'r Login>,
    /// Where to begin, and the entity that must still be the same.
    pub from: u64,
    pub entity: Option<&'r HeaderValue>,
}

impl Http {
    pub(crate) fn new(options: &Options) -> Result<Self, CacheError> {
        let broken = |e: String| CacheError::Bad(format!("caches cannot be asked: {e}"));
        let mut builder = Client::builder()
            .user_agent(concat!("firn/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(tls::config(options.extra_roots.as_deref()).map_err(broken)?)
            .redirect(redirect::Policy::none())
            .referer(false)
            .dns_resolver(Resolver::new(
                options.allow_private_networks || options.proxy_from_environment,
            ))
            .connect_timeout(options.connect_timeout)
            .pool_idle_timeout(Duration::from_secs(60))
            .pool_max_idle_per_host(options.small_at_once)
            .http2_adaptive_window(true)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .http2_keep_alive_timeout(Duration::from_secs(10));
        if !options.proxy_from_environment {
            builder = builder.no_proxy();
        }
        Ok(Self {
            client: builder.build().map_err(|e| broken(e.to_string()))?,
            allow_private: options.allow_private_networks,
            large: Semaphore::new(LARGE_AT_ONCE),
        })
    }

    /// The answer, after its redirects: 200 or, when asked to begin somewhere, 206. Only its head has arrived.
    pub(crate) async fn get(&self, request: Request<'_>) -> Result<Response, Fault> {
        let mut url = request.url.clone();
        let mut login = request.login;
        for _ in 0..=MAX_REDIRECTS {
            self.check(&url)?;
            let mut builder = self.client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
            if let Some(login) = login {
                builder = builder.basic_auth(&login.user, Some(&login.password));
            }
            if request.from > 0 {
                builder = builder.header(RANGE, format!("bytes={}-", request.from));
                if let Some(entity) = request.entity {
                    builder = builder.header(IF_RANGE, entity);
                }
            }
            let response = builder.send().await?;
            match response.status().as_u16() {
                200 => return Ok(response),
                206 if request.from > 0 => return Ok(response),
                301 | 302 | 303 | 307 | 308 => {
                    let location = response.headers().get(LOCATION).and_then(|l| l.to_str().ok());
                    let next = location
                        .and_then(|l| url.join(l).ok())
                        .ok_or_else(|| Fault::Bad("redirects to nowhere".into()))?;
                    followable(&url, &next).map_err(|reason| Fault::Bad(reason.into()))?;
                    if !same_host(&url, &next) {
                        login = None;
                    }
                    url = next;
                    finish(response).await;
                }
                _ => {
                    let status = response.status();
                    let after = retry_after(&response);
                    finish(response).await;
                    return Err(Fault::of_status(status, login.is_some(), after));
                }
            }
        }
        Err(Fault::Bad(format!("redirects more than {MAX_REDIRECTS} times")))
    }

    /// Hosts that are written as an address are never resolved.
    fn check(&self, url: &Url) -> Result<(), Fault> {
        let host = url.host_str().unwrap_or_default();
        let literal = host.trim_matches(['[', ']']).parse();
        match literal {
            Ok(address) if !self.allow_private && !is_elsewhere(address) => Err(Fault::Bad(format!(
                "cannot be used: {}",
                PrivateNetwork(host.to_owned())
            ))),
            _ => Ok(()),
        }
    }
}

/// The `Content-Encoding`, `identity` when there is none.
pub(crate) fn content_encoding(response: &Response) -> Result<String, Fault> {
    match response.headers().get(CONTENT_ENCODING) {
        None => Ok("identity".to_owned()),
        Some(name) => match name.to_str() {
            Ok(name) if name.len() < 40 => Ok(name.trim().to_ascii_lowercase()),
            _ => Err(Fault::Bad("has an unreadable Content-Encoding".into())),
        },
    }
}

/// Reads the rest of an answer that does not matter when it is short, so that the connection can be used again.
async fn finish(mut response: Response) {
    let rest = async {
        let mut left = LONGEST_REST;
        while let Ok(Some(chunk)) = response.chunk().await {
            left = left.saturating_sub(chunk.len());
            if left == 0 {
                break;
            }
        }
    };
    let _ = timeout(LONGEST_FINISH, rest).await;
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER))
}
