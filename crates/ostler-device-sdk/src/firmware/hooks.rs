//! What only the application knows: how a slot is made ready, whether the new image is healthy, how to boot.
//!
//! Must not know: what an update is doing otherwise.
//!
//! Invariant: a hook that panics is a failure of the update, never of the process.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::failure::{Code, Failure};
use super::state::{Slot, Target};

type Run<A> = Arc<dyn Fn(A) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// What the install hook is given.
#[derive(Debug, Clone)]
pub struct Install {
    /// The slot that is made ready. It does not run.
    pub slot: Slot,
    /// The slot's folder.
    pub folder: PathBuf,
    /// The verified image in it.
    pub image: PathBuf,
    /// What it is.
    pub target: Target,
}

/// What the health check is given.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The slot that runs.
    pub slot: Slot,
    /// How often the new image has been booted.
    pub boots: u32,
}

/// What the reboot hook is given.
#[derive(Debug, Clone)]
pub struct Reboot {
    /// The slot that will run.
    pub slot: Slot,
    /// Its folder.
    pub folder: PathBuf,
}

/// A hook of the application.
pub(super) struct Hook<A>(Run<A>);

impl<A> Clone for Hook<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A> std::fmt::Debug for Hook<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

impl<A: Send + 'static> Hook<A> {
    pub fn new<F, Fut>(hook: F) -> Self
    where
        F: Fn(A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self(Arc::new(move |argument| Box::pin(hook(argument))))
    }

    /// Runs the hook in a task of its own, for at most so long. A refusal gets `code`.
    pub async fn run(&self, argument: A, within: Option<Duration>, code: Code) -> Result<(), Failure> {
        let hook = self.0.clone();
        let mut task = Aborting(tokio::spawn(async move { hook(argument).await }));
        let result = match within {
            Some(within) => match tokio::time::timeout(within, &mut task.0).await {
                Ok(result) => result,
                Err(_) => {
                    let text = format!("the health check did not confirm within {} s", within.as_secs());
                    return Err(Failure::new(code, text));
                }
            },
            None => (&mut task.0).await,
        };
        match result {
            Ok(Ok(())) => Ok(()),
            Ok(Err(text)) => Err(Failure::new(code, text)),
            Err(error) => Err(Failure::new(Code::HookPanicked, panic_text(error))),
        }
    }
}

/// A task that ends when nobody waits for it any more.
struct Aborting(tokio::task::JoinHandle<Result<(), String>>);

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn panic_text(error: tokio::task::JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else { return "the application's hook was cut off".to_owned() };
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    format!("the application's hook panicked: {text}")
}
