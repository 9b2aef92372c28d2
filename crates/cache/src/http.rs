//! One HTTP request, with its redirects.

use std::sync::Arc;
use std::time::Duration;

use firn_service::ports::{Login, Trouble};
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, HeaderValue, IF_RANGE, LOCATION, RANGE, RETRY_AFTER,
};
use reqwest::{Client, Response, Url, redirect};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::Options;
use crate::address::{followable, same_host};
use crate::fault::Fault;
use crate::network::{Resolver, is_elsewhere, lookup_places};
use crate::tls;

/// Most redirects that are followed.
const MAX_REDIRECTS: usize = 5;
/// Longest that a cache may ask to be left alone between two attempts.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(30);

/// Most bytes of an answer that are read only to keep its connection, and the longest wait for them.
const LONGEST_REST: usize = 16 << 10;
const LONGEST_FINISH: Duration = Duration::from_secs(1);

/// Most files of more than a usual size that are kept in memory at once, for one account and for all together.
const LARGE_AT_ONCE: usize = 2;
const ALL_LARGE_AT_ONCE: usize = 16;

/// What the clients of all accounts have in common.
pub(crate) struct Shared {
    tls: rustls::ClientConfig,
    proxies: Option<Matcher>,
    large: Arc<Semaphore>,
    lookups: Arc<Semaphore>,
}

impl Shared {
    pub(crate) fn new(options: &Options) -> Result<Self, String> {
        Ok(Self {
            tls: tls::config(options.extra_roots.as_deref())?,
            proxies: options.proxy_from_environment.then(Matcher::from_env),
            large: Arc::new(Semaphore::new(ALL_LARGE_AT_ONCE)),
            lookups: lookup_places(),
        })
    }
}

/// The HTTP client of one account: connections, and whom it talks to. Connections are not shared with other accounts: on one of HTTP/2,
/// who does not read keeps the others waiting.
pub(crate) struct Http {
    shared: Arc<Shared>,
    /// Connects itself.
    direct: Client,
    /// Connects to the proxies of the environment, where there are any.
    proxied: Option<Client>,
    allow_private: bool,
    large: Arc<Semaphore>,
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
    pub(crate) fn new(shared: Arc<Shared>, options: &Options) -> Result<Self, String> {
        let client = |allow_private: bool| {
            Client::builder()
                .user_agent(concat!("firn/", env!("CARGO_PKG_VERSION")))
                .tls_backend_preconfigured(shared.tls.clone())
                .redirect(redirect::Policy::none())
                .referer(false)
                .dns_resolver(Resolver::new(allow_private, Arc::clone(&shared.lookups)))
                .connect_timeout(options.connect_timeout)
                .pool_idle_timeout(Duration::from_secs(60))
                .pool_max_idle_per_host(options.small_at_once)
                .http2_adaptive_window(true)
                .http2_keep_alive_interval(Duration::from_secs(20))
                .http2_keep_alive_timeout(Duration::from_secs(10))
        };
        let direct = client(options.allow_private_networks).no_proxy().build();
        // It resolves nothing but the proxies' own names, which are the operator's choice.
        let proxied = shared.proxies.as_ref().map(|_| client(true).build()).transpose();
        Ok(Self {
            direct: direct.map_err(|e| e.to_string())?,
            proxied: proxied.map_err(|e| e.to_string())?,
            allow_private: options.allow_private_networks,
            large: Arc::new(Semaphore::new(LARGE_AT_ONCE)),
            shared,
        })
    }

    /// A place for a file that is small, but not very small: it is kept in memory whole.
    pub(crate) async fn large_place(&self) -> [Option<OwnedSemaphorePermit>; 2] {
        let own = Arc::clone(&self.large).acquire_owned().await.ok();
        let all = Arc::clone(&self.shared.large).acquire_owned().await.ok();
        [own, all]
    }

    /// Through a proxy where the environment names one for that address. What is connected to directly is checked.
    fn client(&self, url: &Url) -> &Client {
        let proxied = self.proxied.as_ref().filter(|_| {
            let intercepted = self.shared.proxies.as_ref().zip(url.as_str().parse().ok());
            intercepted.is_some_and(|(proxies, to)| proxies.intercept(&to).is_some())
        });
        proxied.unwrap_or(&self.direct)
    }

    /// The answer, after its redirects: 200 or, when asked to begin somewhere, 206. Only its head has arrived.
    pub(crate) async fn get(&self, request: Request<'_>) -> Result<Response, Fault> {
        let mut url = request.url.clone();
        let mut login = request.login;
        for _ in 0..=MAX_REDIRECTS {
            self.check(&url)?;
            let mut builder = self
                .client(&url)
                .get(url.clone())
                .header(ACCEPT_ENCODING, "identity");
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
                        .ok_or_else(|| Fault::bad("redirects to nowhere"))?;
                    followable(&url, &next).map_err(Fault::bad)?;
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
        Err(Fault::bad(format!("redirects more than {MAX_REDIRECTS} times")))
    }

    /// Hosts that are written as an address are never resolved.
    fn check(&self, url: &Url) -> Result<(), Fault> {
        let host = url.host_str().unwrap_or_default();
        let literal = host.trim_matches(['[', ']']).parse();
        match literal {
            Ok(address) if !self.allow_private && !is_elsewhere(address) => {
                Err(Fault::Final(Trouble::PrivateNetwork(host.to_owned())))
            }
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
            _ => Err(Fault::bad("has an unreadable Content-Encoding")),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_no_proxy_is_used_for_is_checked() {
        let options = Options::default();
        let shared = Shared {
            proxies: Some(
                Matcher::builder()
                    .http("http://proxy.invalid")
                    .no("localhost")
                    .build(),
            ),
            ..Shared::new(&options).unwrap()
        };
        let http = Http::new(Arc::new(shared), &options).unwrap();
        let is_direct = |url: &str| std::ptr::eq(http.client(&url.parse().unwrap()), &http.direct);
        assert!(!is_direct("http://cache.example/x"));
        assert!(is_direct("http://localhost/x") && is_direct("https://cache.example/x"));
        let url = "http://localhost:9/nix-cache-info".parse().unwrap();
        let request = Request {
            url: &url,
            login: None,
            from: 0,
            entity: None,
        };
        let fault = http.get(request).await.unwrap_err();
        assert!(
            matches!(&fault, Fault::Final(Trouble::PrivateNetwork(host)) if host == "localhost"),
            "{fault:?}"
        );
    }
}
