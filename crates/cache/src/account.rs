//! Every question of one account, to a cache on the network or on the disk.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use firn_core::CacheUrl;
use firn_nix::StorePath;
use firn_nix::narinfo::{MAX_NARINFO, NarInfo};
use firn_protocol::ByteStream;
use firn_service::ports::{AccountCaches, CacheError, CacheInfo, Login, Trouble};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::io::ReaderStream;

use crate::Options;
use crate::about::{self, MAX_ABOUT};
use crate::address::{file_of, shown};
use crate::asker::Asker;
use crate::download::Download;
use crate::fault::Fault;
use crate::file::FileRoots;
use crate::packed::{Expected, Source, packed, possible};
use crate::recognise::Recognising;
use crate::remembered::{Answer, Key, Question, Remembered};
use crate::site::SMALL_QUEUE;
use crate::small::{self, Small};
use crate::unpack::{Unpacked, What, from_io};
use futures_util::StreamExt as _;

/// Bytes between two decoders.
const BETWEEN: usize = 64 << 10;

/// Asks for one account. Clones are the same.
#[derive(Clone)]
pub struct AccountClient {
    pub(crate) asker: Arc<Asker>,
    pub(crate) options: Arc<Options>,
    pub(crate) roots: Arc<FileRoots>,
    pub(crate) remembered: Remembered,
    /// For how long misses are remembered at most, where the client has a wish.
    pub(crate) misses: Option<Duration>,
}

/// An answer that is no file of a cache but a page for people: of a portal, of a server that has another page for every address.
fn is_web_page(file: &[u8]) -> bool {
    file.trim_ascii_start().starts_with(b"<")
}

impl AccountClient {
    async fn small(
        &self,
        cache: &CacheUrl,
        login: Option<&Login>,
        file: &str,
        limit: usize,
    ) -> Result<Result<Vec<u8>, Option<u16>>, CacheError> {
        let base = cache.base();
        if cache.is_file() {
            let (roots, directory, file) = (self.roots.clone(), cache.path().to_owned(), file.to_owned());
            let found = blocking(&base, move || roots.small(Path::new(&directory), &file, limit)).await?;
            return Ok(found.ok_or(None));
        }
        let url = file_of(&base, file).map_err(|reason| Fault::bad(reason).into_error(&base))?;
        let site = self.asker.site(&base);
        let http = self.asker.http().map_err(|fault| fault.into_error(&base))?;
        let got: Small = small::get(&http, &self.options, &site, &url, login, limit).await?;
        Ok(got.map_err(Some))
    }

    fn key(&self, cache: &CacheUrl, login: Option<&Login>, question: Question) -> Key {
        Key::new(self.asker.memory(), &cache.base(), login, question)
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
        let key = self.key(cache, login, question);
        if let Some(answer) = self.remembered.get(&key, self.misses).await {
            return answer;
        }
        let longest = SMALL_QUEUE + self.options.small_timeout * 2 + Duration::from_secs(5);
        let (remembered, misses) = (self.remembered.clone(), self.misses);
        let answer = tokio::spawn(async move { timeout(longest, remembered.answer(key, misses, ask)).await });
        match answer.await {
            Ok(Ok(answer)) => answer,
            _ => Err(Fault::passing("does not answer").into_error(&cache.base())),
        }
    }

    async fn ask_about(&self, cache: &CacheUrl, login: Option<&Login>) -> Result<CacheInfo, CacheError> {
        let error = |trouble| Fault::Final(trouble).into_error(&cache.base());
        match self.small(cache, login, "nix-cache-info", MAX_ABOUT).await? {
            Ok(file) if is_web_page(&file) => Err(error(Trouble::WebPage("nix-cache-info"))),
            Ok(file) => about::parse(&file).map_err(|store| error(Trouble::OtherStore(store))),
            // Who may not list a bucket is told so even of what is there for all.
            Err(Some(status @ 403)) => Err(error(Trouble::Login {
                status,
                shown: login.is_some(),
            })),
            Err(status) => Err(error(Trouble::NoCacheInfo { status })),
        }
    }

    async fn ask_narinfo(
        &self,
        cache: &CacheUrl,
        login: Option<&Login>,
        path: &StorePath,
    ) -> Result<Option<NarInfo>, CacheError> {
        let error = |trouble| Fault::Final(trouble).into_error(&cache.base());
        let bad = |text: String| error(Trouble::Bad(text));
        let name = format!("{}.narinfo", path.hash_part());
        let Ok(file) = self.small(cache, login, &name, MAX_NARINFO).await? else {
            return Ok(None);
        };
        if is_web_page(&file) {
            return Err(error(Trouble::WebPage("an entry")));
        }
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
        let gone = || Fault::Final(Trouble::NoNar(info.path.clone())).into_error(&base);
        if cache.is_file() {
            let (roots, directory, file) = (self.roots.clone(), cache.path().to_owned(), info.url.clone());
            let opened = blocking(&base, move || roots.open(Path::new(&directory), &file)).await?;
            return Ok(Source::Disk(tokio::fs::File::from_std(opened.ok_or_else(gone)?)));
        }
        let bad = |text: String| Fault::bad(text).into_error(&base);
        let url = file_of(&base, &info.url).map_err(|reason| bad(format!("names a NAR that {reason}")))?;
        let root = file_of(&base, "nix-cache-info").map_err(|reason| bad(reason.into()))?;
        let login = login.filter(|_| crate::address::same_host(&root, &url)).cloned();
        tracing::debug!(url = shown(&url), "downloading");
        let started = Download::start(
            self.asker.http().map_err(|fault| fault.into_error(&base))?,
            self.options.clone(),
            self.asker.site(&base),
            url,
            login,
            info.file_size,
        );
        match started.await {
            Ok(download) => Ok(Source::Network(Box::new(download))),
            Err(Err(error)) => Err(error),
            Err(Ok(Fault::Missing { .. })) => {
                if let Some(key) = key {
                    self.remembered.forget(key).await;
                }
                Err(gone())
            }
            Err(Ok(fault)) => Err(fault.into_error(&base)),
        }
    }
}

impl AccountCaches for AccountClient {
    async fn about(&self, cache: &CacheUrl, login: Option<&Login>) -> Result<CacheInfo, CacheError> {
        let (client, to, shown) = (self.clone(), cache.clone(), login.cloned());
        let ask = async move {
            let info = client.ask_about(&to, shown.as_ref()).await?;
            Ok(Answer::About(info))
        };
        let mut info = match self.remembered(cache, login, Question::About, ask).await? {
            Answer::About(info) => info,
            _ => return Err(Fault::bad("has no nix-cache-info").into_error(&cache.base())),
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

    async fn not_believed(&self, cache: &CacheUrl, login: Option<&Login>, path: &StorePath) {
        let question = Question::NarInfo(path.base_name().to_owned());
        self.remembered.shorten(self.key(cache, login, question)).await;
    }

    async fn nar(
        &self,
        cache: &CacheUrl,
        login: Option<&Login>,
        info: &NarInfo,
    ) -> Result<ByteStream, CacheError> {
        let base = cache.base();
        let bad = |text: String| Fault::bad(text).into_error(&base);
        let decoder = Recognising::compression(&info.compression)
            .ok_or_else(|| bad(format!("has a NAR of unknown compression '{}'", info.compression)))?;
        let expected = Expected::of(info).map_err(bad)?;
        let question = Question::NarInfo(info.path.base_name().to_owned());
        let key = (!cache.is_file()).then(|| self.key(cache, login, question));
        let source = self.source(cache, login, info, key.as_ref()).await?;
        let encoding = source.encoding().map(str::to_owned);
        let forget = key.map(|key| (self.remembered.clone(), key));
        let what = || What {
            cache: base.clone(),
            file: format!("has a NAR of {} that", info.path),
        };
        let Some(encoding) = encoding else {
            let packed = Box::pin(packed(source, expected, base.clone(), forget));
            let nar = Unpacked::new(packed, decoder, info.nar_size, true, what());
            return Ok(Box::new(nar));
        };
        let outer = Recognising::encoding(&encoding)
            .ok_or_else(|| bad("sends a NAR with an unknown Content-Encoding".into()))?;
        let packed = packed(source, Expected::encoded(info), base.clone(), forget);
        let file = Unpacked::new(Box::pin(packed), outer, possible(info), false, what());
        let file = ReaderStream::with_capacity(file, BETWEEN).map(|chunk| chunk.map_err(from_io));
        let nar = Unpacked::new(Box::pin(file), decoder, info.nar_size, true, what());
        Ok(Box::new(nar))
    }

    fn refresh(&self) {
        self.asker.refresh();
    }
}

async fn blocking<T: Send + 'static>(
    base: &str,
    what: impl FnOnce() -> Result<T, CacheError> + Send + 'static,
) -> Result<T, CacheError> {
    let broken = |e| Fault::bad(format!("cannot be read: {e}")).into_error(base);
    spawn_blocking(what).await.unwrap_or_else(|e| Err(broken(e)))
}
