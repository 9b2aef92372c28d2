//! The bytes behind a URL.

use std::error::Error as _;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use reqwest::header::{ACCEPT_ENCODING, HeaderValue};
use reqwest::{Client, NoProxy, Proxy, Response, Url, redirect};
use tokio::runtime::Runtime;

use crate::{BuiltinError, Variable, tls};

/// Attempts, redirects: as Nix has them.
const ATTEMPTS: u32 = 5;
const REDIRECTS: usize = 10;
const CONNECT: Duration = Duration::from_secs(15);
/// Longest wait for the next bytes.
const STALLED: Duration = Duration::from_secs(300);
/// Before the second attempt; each more is twice as long.
const PAUSE: Duration = Duration::from_millis(250);
/// Bytes of an error page that are shown.
const PAGE: usize = 2048;

/// Why what came could not be taken.
pub(crate) enum Fault {
    /// By the sender's doing: it did not come.
    There(io::Error),
    /// It came, and is not what it should be, or has no room here: another attempt is in vain.
    Here(BuiltinError),
}

/// Why an attempt failed, and whether another one may not.
struct Failed {
    why: String,
    again: bool,
}

/// Hands the bytes to `take`, from the beginning for each attempt.
pub(crate) fn download(
    url: &str,
    variables: &[Variable],
    mut take: impl FnMut(&mut dyn Read) -> Result<(), Fault>,
) -> Result<(), BuiltinError> {
    let failed = |why: String| BuiltinError::Download {
        url: url.to_owned(),
        why,
    };
    let parsed = Url::parse(url).map_err(|e| failed(e.to_string()))?;
    match parsed.scheme() {
        "http" | "https" => {}
        "file" => return file(&parsed, take).map_err(failed)?,
        scheme => return Err(failed(format!("protocol '{scheme}' is not supported"))),
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| failed(e.to_string()))?;
    let client = client(parsed.scheme() == "https", variables).map_err(failed)?;
    let mut pause = PAUSE;
    for attempt in 1.. {
        let fault = match runtime.block_on(begin(&client, &parsed)) {
            Ok(response) => {
                let mut body = Body {
                    runtime: &runtime,
                    response,
                    left: Bytes::new(),
                };
                match take(&mut body) {
                    Ok(()) => return Ok(()),
                    Err(Fault::Here(error)) => return Err(error),
                    Err(Fault::There(error)) => Failed {
                        why: error.to_string(),
                        again: true,
                    },
                }
            }
            Err(fault) => fault,
        };
        if !fault.again || attempt >= ATTEMPTS {
            return Err(failed(fault.why));
        }
        eprintln!(
            "warning: unable to download '{url}': {}; retrying in {} ms (attempt {attempt}/{ATTEMPTS})",
            fault.why,
            pause.as_millis()
        );
        std::thread::sleep(pause);
        pause *= 2;
    }
    Ok(())
}

/// Files of the sandbox: inputs.
fn file(
    url: &Url,
    mut take: impl FnMut(&mut dyn Read) -> Result<(), Fault>,
) -> Result<Result<(), BuiltinError>, String> {
    let path = url
        .to_file_path()
        .map_err(|()| "this is no file here".to_owned())?;
    let mut file = std::fs::File::open(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    match take(&mut file) {
        Ok(()) => Ok(Ok(())),
        Err(Fault::Here(error)) => Ok(Err(error)),
        Err(Fault::There(error)) => Err(error.to_string()),
    }
}

fn client(https: bool, variables: &[Variable]) -> Result<Client, String> {
    let roots = tls::config(Path::new(crate::CA_FILE));
    let config = match roots {
        Err(why) if https => return Err(why),
        // A redirect to https says then that nobody is trusted.
        Err(_) => tls::of(rustls::RootCertStore::empty())?,
        Ok(config) => config,
    };
    let mut builder = Client::builder()
        .user_agent(concat!("firn/", env!("CARGO_PKG_VERSION"), " (builtin:fetchurl)"))
        .tls_backend_preconfigured(config)
        .redirect(redirect::Policy::limited(REDIRECTS))
        .referer(false)
        .connect_timeout(CONNECT)
        .read_timeout(STALLED)
        .no_proxy();
    for proxy in proxies(variables)? {
        builder = builder.proxy(proxy);
    }
    builder.build().map_err(|e| why(&e))
}

/// The operator's, by the names that curl knows.
fn proxies(variables: &[Variable]) -> Result<Vec<Proxy>, String> {
    let find = |names: [&str; 2]| {
        let find = |name: &str| variables.iter().find(|(key, _)| key == name.as_bytes());
        let found = names.iter().find_map(|name| find(name));
        found
            .and_then(|(_, value)| std::str::from_utf8(value).ok())
            .filter(|value| !value.is_empty())
    };
    let except = find(["no_proxy", "NO_PROXY"]).and_then(NoProxy::from_string);
    let mut proxies = Vec::new();
    for (names, scheme) in [
        (["http_proxy", "HTTP_PROXY"], "http"),
        (["https_proxy", "HTTPS_PROXY"], "https"),
        (["all_proxy", "ALL_PROXY"], "all"),
    ] {
        let Some(url) = find(names) else { continue };
        let proxy = match scheme {
            "http" => Proxy::http(url),
            "https" => Proxy::https(url),
            _ => Proxy::all(url),
        };
        let proxy = proxy.map_err(|e| format!("the operator's proxy for {scheme}: {}", why(&e)))?;
        proxies.push(proxy.no_proxy(except.clone()));
    }
    Ok(proxies)
}

/// The answer, of which only the head has come.
async fn begin(client: &Client, url: &Url) -> Result<Response, Failed> {
    // The hash is that of the file, not of some encoding of it.
    let identity = HeaderValue::from_static("identity");
    let request = client.get(url.clone()).header(ACCEPT_ENCODING, identity);
    let response = request.send().await.map_err(|error| Failed {
        why: why(&error),
        again: !error.is_builder() && !error.is_redirect(),
    })?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let mut text = format!("HTTP error {}", status.as_u16());
    if let Some(reason) = status.canonical_reason() {
        text.push_str(&format!(" ({reason})"));
    }
    let again = status.is_server_error() && !matches!(status.as_u16(), 501 | 505 | 511)
        || matches!(status.as_u16(), 408 | 429);
    let page = beginning(response).await;
    if !page.is_empty() && !again {
        text.push_str("\n\nresponse body:\n\n");
        text.push_str(&page);
    }
    Err(Failed { why: text, again })
}

async fn beginning(mut response: Response) -> String {
    let mut page = Vec::new();
    while page.len() < PAGE {
        match response.chunk().await {
            Ok(Some(chunk)) => page.extend(chunk.iter().take(PAGE - page.len())),
            _ => break,
        }
    }
    let text: String = page.utf8_chunks().map(|chunk| chunk.valid()).collect();
    text.chars().filter(|c| !c.is_control() || *c == '\n').collect()
}

/// A body as bytes to read.
struct Body<'a> {
    runtime: &'a Runtime,
    response: Response,
    left: Bytes,
}

impl Read for Body<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.left.is_empty() {
            match self.runtime.block_on(self.response.chunk()) {
                Ok(Some(chunk)) => self.left = chunk,
                Ok(None) => return Ok(0),
                Err(error) => return Err(io::Error::other(why(&error))),
            }
        }
        let length = to.len().min(self.left.len());
        self.left.copy_to_slice(to.get_mut(..length).unwrap_or_default());
        Ok(length)
    }
}

/// The last cause says the most.
fn why(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = next.to_string();
        cause = next.source();
    }
    if error.is_timeout() {
        text = format!("timed out ({text})");
    }
    text
}
