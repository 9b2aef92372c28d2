//! `log`: a build's log as it comes, to its end.

use std::io;
use std::pin::pin;

use firn_service::StoreError;
use firn_service::ports::Ports;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use super::console::Console;
use super::{Answers, Next, Shell};
use crate::commands::history::{about, shown};

/// Bytes without a line end that are passed on as a line of their own.
const MAX_LINE: usize = 64 << 10;

impl<P: Ports> Shell<P> {
    /// Shows a log, and follows it until its build ends or the person has seen enough.
    pub(super) async fn follow(&mut self, wanted: &str, console: &mut Console) -> io::Result<Next> {
        let mut log = match self.desk.log(wanted).await {
            Ok(log) => log,
            Err(error) => return self.refuse(&error).await,
        };
        if self.answers.json {
            self.answers.line(&about(&log).to_string(), false).await?;
        }
        let mut enough = pin!(console.interrupted());
        let mut rest = Vec::new();
        loop {
            let chunk = tokio::select! {
                chunk = log.next() => chunk,
                () = &mut enough => return Ok(Next::Failed),
            };
            match chunk {
                Ok(Some(chunk)) => self.answers.log(&chunk, &mut rest).await?,
                Ok(None) => break,
                Err(error) => return self.refuse(&error).await,
            }
        }
        if !rest.is_empty() {
            self.answers.log(b"\n", &mut rest).await?;
        }
        Ok(Next::Ok)
    }

    async fn refuse(&mut self, error: &StoreError) -> io::Result<Next> {
        self.answers.error(&error.message).await?;
        Ok(Next::Failed)
    }
}

impl Answers {
    /// Passes bytes of a log on: as they are to a person, who may want its colours; a line each to a program. `rest` is the line that
    /// has not ended.
    async fn log(&mut self, chunk: &[u8], rest: &mut Vec<u8>) -> io::Result<()> {
        rest.extend_from_slice(chunk);
        let whole = match rest.iter().rposition(|byte| *byte == b'\n') {
            Some(at) => at + 1,
            None if rest.len() > MAX_LINE => rest.len(),
            None => return Ok(()),
        };
        let lines: Vec<u8> = rest.drain(..whole).collect();
        let mut out = Vec::with_capacity(lines.len() + 64);
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            if self.json {
                out.extend_from_slice(json!({ "line": shown(line) }).to_string().as_bytes());
            } else {
                out.extend_from_slice(line);
            }
            out.extend_from_slice(if self.terminal { b"\r\n" } else { b"\n" });
        }
        self.stdout.write_all(&out).await?;
        self.stdout.flush().await
    }
}
