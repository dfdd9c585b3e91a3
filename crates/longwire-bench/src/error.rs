//! What can go wrong in a measurement, by who erred.

use std::io;

/// Why a scenario ended without figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The options cannot be followed; the text says which and why.
    #[error("{0}")]
    Options(String),
    /// The operating system refused something.
    #[error("{what}: {cause}")]
    System {
        /// What was tried.
        what: String,
        /// Its answer.
        cause: io::Error,
    },
    /// The server could not be reached, refused, or died.
    #[error("server: {0}")]
    Server(String),
    /// A process of the measurement failed.
    #[error("{role} process: {text}")]
    Child {
        /// Which one.
        role: String,
        /// What it said.
        text: String,
    },
    /// Something took longer than it may.
    #[error("{what} did not happen within {seconds} s")]
    Late {
        /// What was awaited.
        what: String,
        /// How long.
        seconds: u64,
    },
}

impl BenchError {
    /// For `map_err`: names what was tried.
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> BenchError {
        let what = what.into();
        move |cause| BenchError::System { what, cause }
    }
}
