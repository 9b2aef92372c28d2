//! Requests that build.

use std::future::Future;

use firn_nix::{BasicDerivation, StorePath};
use tokio::io::{AsyncRead, AsyncWrite};

use super::answer::{Failure, flatten};
use super::session::Session;
use crate::codec::format_derived_path;
use crate::drive::logged;
use crate::{BuildMode, BuildResult, DerivedPath, LogSink, MAX_WORDS, Store, StoreError};

impl<S, R, W> Session<'_, S, R, W>
where
    S: Store,
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    pub(super) async fn build_derivation(
        &mut self,
        path: StorePath,
        drv: BasicDerivation,
        mode: BuildMode,
    ) -> Result<(), Failure> {
        let (store, options) = (self.store, self.build_options);
        let start = |log| store.build_derivation(path, drv, mode, options, log);
        let result = self.run(start).await?;
        let format = self.version.result_format();
        self.reply().build_result(&result, format);
        Ok(())
    }

    pub(super) async fn build_paths(
        &mut self,
        targets: Vec<DerivedPath>,
        mode: BuildMode,
    ) -> Result<(), Failure> {
        let (store, options) = (self.store, self.build_options);
        let results = self
            .run(|log| store.build_paths(targets, mode, options, log))
            .await?;
        if results.iter().all(|result| result.status.is_success()) {
            self.reply().u64(1);
            return Ok(());
        }
        let failures = results.iter().filter(|result| !result.status.is_success());
        Err(Failure::refused(told(failures)))
    }

    pub(super) async fn build_paths_with_results(
        &mut self,
        targets: Vec<DerivedPath>,
        mode: BuildMode,
    ) -> Result<(), Failure> {
        let (store, options) = (self.store, self.build_options);
        let asked = targets.clone();
        let results: Vec<BuildResult> = self
            .run(|log| store.build_paths(targets, mode, options, log))
            .await?;
        if results.len() != asked.len() {
            return Err(Failure::refused("the store answered for other paths than asked"));
        }
        let (version, format) = (self.version, self.version.result_format());
        self.reply()
            .list(asked.iter().zip(&results), |e, (target, result)| {
                e.text(&format_derived_path(target, !version.has_plain_derivations()))
                    .build_result(result, format);
            });
        Ok(())
    }

    async fn run<T, F>(&mut self, start: impl FnOnce(LogSink) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let activities = &mut self.activities;
        let render = |event, out: &mut _| activities.render(event, out);
        let result = logged(&mut self.reader, &mut self.writer, render, start).await;
        self.activities.finish(self.writer.out());
        flatten(self.during, result)
    }
}

/// The first of these failures, as many as an error has room for, and how many there are besides.
fn told<'r>(failures: impl Iterator<Item = &'r BuildResult>) -> String {
    let mut text = String::new();
    let mut more = 0_u64;
    for failure in failures {
        let failure = shown(&failure.error_msg);
        if !text.is_empty() && text.len() + failure.len() > MAX_WORDS - 64 {
            more += 1;
            continue;
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&failure);
    }
    if more > 0 {
        text.push_str(&format!("\nand {more} more failures"));
    }
    text
}

#[expect(clippy::disallowed_methods, reason = "an error message for a person")]
fn shown(text: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(text)
}
