use crate::error::ContentError;

/// Runs `work` on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ContentError> {
    finished(tokio::task::spawn_blocking(work).await)
}

/// What a blocking task returned.
pub(crate) fn finished<T>(result: Result<T, tokio::task::JoinError>) -> Result<T, ContentError> {
    match result {
        Ok(value) => Ok(value),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(ContentError::Interrupted),
        },
    }
}

/// Something whose dropping takes a while, as it deletes files: dropped on a thread that may block if there is one.
/// When the runtime is shutting down, it is dropped at once.
#[derive(Debug)]
pub(crate) struct Background<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> Background<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// The value; always there.
    pub(crate) fn into_inner(mut self) -> Option<T> {
        self.0.take()
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }
}

impl<T: Send + 'static> Drop for Background<T> {
    fn drop(&mut self) {
        if let Some(value) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn_blocking(move || drop(value));
        }
    }
}
