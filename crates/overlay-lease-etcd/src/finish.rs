//! What has begun is brought to its end.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

/// The same future, except that it goes on by itself when this one is dropped after it has begun: for requests after whose
/// answer there is something to clear away.
pub(crate) fn finish<F>(future: F) -> Finish<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    Finish { future: Some(Box::pin(future)), begun: false }
}

pub(crate) struct Finish<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    /// Nothing after it has ended.
    future: Option<Pin<Box<F>>>,
    begun: bool,
}

impl<F> Future for Finish<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.begun = true;
        let Some(future) = &mut self.future else { return Poll::Pending };
        let output = std::task::ready!(future.as_mut().poll(context));
        self.future = None;
        Poll::Ready(output)
    }
}

impl<F> Drop for Finish<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    fn drop(&mut self) {
        if let (true, Some(future), Ok(runtime)) =
            (self.begun, self.future.take(), Handle::try_current())
        {
            runtime.spawn(future);
        }
    }
}
