//! The client: every question, from a cache on the network or on the disk.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use firn_core::CacheUrl;
use firn_nix::StorePath;
use firn_nix::narinfo::{MAX_NARINFO, NarInfo};
use firn_protocol::ByteStream;
use firn_service::ports::{CacheError, CacheInfo, Caches, Login};
use moka::future::Cache;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::about::{self, MAX_ABOUT};
use crate::address::{file_of, shown};
use crate::decoder::Decoder;
use crate::download::Download;
use crate::fault::Fault;
use crate::file::FileRoots;
use crate::http::Http;
use crate::packed::{Expected, Source, packed};
use crate::remembered::{Answer, Key, Question, Remembered};
use crate::site::{SMALL_QUEUE, Site};
use crate::unpack::Unpacked;
use crate::{Options, small};

/// Most caches whose state is kept.
const MAX_SITES: u64 = 10_000;

/// Asks binary caches. Clones share connections and memory.
#[derive(Clone)]
pub struct CacheClient {
    http: Arc<Http>,
    options: Arc<Options>,
    roots: Arc<FileRoots>,
    remembered: Remembered,
    sites: Cache<String, Arc<Site>>,
}

impl CacheClient {
    /// Reads root certificates and looks at the file roots.
    ///
    /// # Errors
    /// [`CacheError::Bad`] when `extra_roots` or one of `file_roots` cannot be used.
    pub fn new(options: Options) -> Result<Self, CacheError> {
        Ok(Self {
            http: Arc::new(Http::new(&options)?),
            roots: Arc::new(FileRoots::new(&options.file_roots)?),
            remembered: Remembered::new(options.remembered, options.positive_ttl, options.negative_ttl),
            sites: Cache::new(MAX_SITES),
            options: Arc::new(options),
        })
    }

    async fn site(&self, base: &str) -> Arc<Site> {
        let new = async { Arc::new(Site::new(base.to_owned(), &self.options)) };
        self.sites.get_with_by_ref(base, new).await
    }

    async fn small(
        &self,
        cache: &CacheUrl,
        login: Option<&Login>,
        file: &str,
        limit: usize,
    ) -> Result<Option<Vec<u8>>, CacheError> {
        let base = cache.base();
        if cache.is_file() {
            let (roots, directory, file) = (self.roots.clone(), cache.path().to_owned(), file.to_owned());
            return blocking(move || roots.small(Path::new(&directory), &file, limit)).await;
        }
        let url = file_of(&base, file).map_err(|reason| Fault::Bad(reason.into()).into_error(&base))?;
        let site = self.site(&base).await;
        small::get(&self.http, &self.options, &site, &url, login, limit).await
    }

    /// Answers from the disk are not remembered: they cost next to nothing, and change at once. A request goes on when the one who
    /// asked goes away, as others may wait for its answer.
    async fn remembered(
        &self,
        cache: &CacheUrl,
        login: Option<&Login>,
        question: Question,
        ask: impl Future<Output = Result<Answer, CacheError>> + Send + 'static,
    ) -> Result<Answer, CacheError> {
        if cache.is_file() {
            return ask.await;
        }
        let base = cache.base();
        let key = Key::new(&base, login, question);
        if let Some(answer) = self.remembered.get(&key).await {
            return answer;
        }
        let longest = SMALL_QUEUE + self.options.small_timeout + Duration::from_secs(5);
        let remembered = self.remembered.clone();
        let answer = tokio::spawn(async move { timeout(longest, remembered.answer(key, ask)).await });
        match answer.await {
            Ok(Ok(answer)) => answer,
            _ => Err(Fault::passing("does not answer").into_error(&base)),
        }
    }

    async fn ask_about(&self, cache: &CacheUrl, login: Option<&Login>) -> Result<CacheInfo, CacheError> {
        let bad = |text: String| Fault::Bad(text).into_error(&cache.base());
        let file = self.small(cache, login, "nix-cache-info", MAX_ABOUT).await?;
        let file = file.ok_or_else(|| bad("is not a binary cache: it has no nix-cache-info".into()))?;
        about::parse(&file).map_err(bad)
    }

    async fn ask_narinfo(
        &self,
        cache: &CacheUrl,
        login: Option<&Login>,
        path: &StorePath,
    ) -> Result<Option<NarInfo>, CacheError> {
        let bad = |text: String| Fault::Bad(text).into_error(&cache.base());
        let name = format!("{}.narinfo", path.hash_part());
        let Some(file) = self.small(cache, login, &name, MAX_NARINFO).await? else {
            return Ok(None);
        };
        let info = NarInfo::parse(&file).map_err(|e| bad(format!("has a bad entry for {path}: {e}")))?;
        if &info.path != path {
            return Err(bad(format!("has {} in the place of {path}", info.path)));
        }
        Ok(Some(info))
    }

    async fn source(
        &self,
        cache: &CacheUrl,
        login: Option<&Login>,
        info: &NarInfo,
        key: Option<&Key>,
    ) -> Result<Source, CacheError> {
        let base = cache.base();
        let gone = || {
            CacheError::Bad(format!(
                "the cache '{base}' does not have the NAR of {} that it names",
                info.path
            ))
        };
        if cache.is_file() {
            let (roots, directory, file) = (self.roots.clone(), cache.path().to_owned(), info.url.clone());
            let opened = blocking(move || roots.open(Path::new(&directory), &file)).await?;
            return Ok(Source::Disk(tokio::fs::File::from_std(opened.ok_or_else(gone)?)));
        }
        let bad = |text: String| Fault::Bad(text).into_error(&base);
        let url = file_of(&base, &info.url).map_err(|reason| bad(format!("names a NAR that {reason}")))?;
        let root = file_of(&base, "nix-cache-info").map_err(|reason| bad(reason.into()))?;
        let login = login.filter(|_| crate::address::same_host(&root, &url)).cloned();
        tracing::debug!(url = shown(&url), "downloading");
        let started = Download::start(
            self.http.clone(),
            self.options.clone(),
            self.site(&base).await,
            url,
            login,
            info.file_size,
        );
        match started.await {
            Ok(download) => Ok(Source::Network(Box::new(download))),
            Err(Err(error)) => Err(error),
            Err(Ok(Fault::Missing)) => {
                if let Some(key) = key {
                    self.remembered.forget(key).await;
                }
                Err(gone())
            }
            Err(Ok(fault)) => Err(fault.into_error(&base)),
        }
    }
}

impl Caches for CacheClient {
    async fn about(&self, cache: &CacheUrl, login: Option<&Login>) -> Result<CacheInfo, CacheError> {
        let (client, to, shown) = (self.clone(), cache.clone(), login.cloned());
        let ask = async move {
            let info = client.ask_about(&to, shown.as_ref()).await?;
            Ok(Answer::About(info))
        };
        let mut info = match self.remembered(cache, login, Question::About, ask).await? {
            Answer::About(info) => info,
            _ => return Err(Fault::Bad("has no nix-cache-info".into()).into_error(&cache.base())),
        };
        info.priority = cache.priority().unwrap_or(info.priority);
        Ok(info)
    }

    async fn narinfo(
        &self,
        cache: &CacheUrl,
        login: Option<&Login>,
        path: &StorePath,
    ) -> Result<Option<NarInfo>, CacheError> {
        let (client, to, shown, wanted) = (self.clone(), cache.clone(), login.cloned(), path.clone());
        let ask = async move {
            let info = client.ask_narinfo(&to, shown.as_ref(), &wanted).await?;
            Ok(info.map_or(Answer::Nothing, |info| Answer::NarInfo(Box::new(info))))
        };
        let question = Question::NarInfo(path.base_name().to_owned());
        match self.remembered(cache, login, question, ask).await? {
            Answer::NarInfo(info) => Ok(Some(*info)),
            _ => Ok(None),
        }
    }

    async fn nar(
        &self,
        cache: &CacheUrl,
        login: Option<&Login>,
        info: &NarInfo,
    ) -> Result<ByteStream, CacheError> {
        let base = cache.base();
        let bad = |text: String| Fault::Bad(text).into_error(&base);
        let decoder = Decoder::new(&info.compression)
            .map_err(|e| bad(format!("has a NAR that cannot be unpacked: {e}")))?
            .ok_or_else(|| bad(format!("has a NAR of unknown compression '{}'", info.compression)))?;
        let expected = Expected::of(info).map_err(bad)?;
        let key = (!cache.is_file())
            .then(|| Key::new(&base, login, Question::NarInfo(info.path.base_name().to_owned())));
        let source = self.source(cache, login, info, key.as_ref()).await?;
        let forget = key.map(|key| (self.remembered.clone(), key));
        let what = format!("the NAR of {} from the cache '{base}'", info.path);
        let packed = Box::pin(packed(source, expected, base, forget));
        Ok(Box::new(Unpacked::new(
            packed,
            decoder,
            info.nar_size,
            true,
            what,
        )))
    }
}

async fn blocking<T: Send + 'static>(
    what: impl FnOnce() -> Result<T, CacheError> + Send + 'static,
) -> Result<T, CacheError> {
    spawn_blocking(what).await.unwrap_or_else(|e| {
        Err(CacheError::Bad(format!(
            "a cache on the disk cannot be read: {e}"
        )))
    })
}
