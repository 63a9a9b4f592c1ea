//! Exact byte-pair encoding.
//!
//! `pretokenize` cuts text into pieces (`window` does most of it), `count` counts these, `train` learns
//! merges from the counts, `encode` applies them with the tables of a `vocabulary`. None of them knows
//! Python; `python` (feature of that name) is the binding only.

mod cache;
mod count;
mod encode;
mod merge;
#[cfg(feature = "python")]
mod parquet;
mod pieces;
mod pretokenize;
#[cfg(feature = "python")]
mod python;
mod train;
mod vocabulary;
mod window;

use std::fmt;

pub use count::{PieceCounter, PieceCounts};
pub use encode::{Encoder, Flat, gather};
pub use pretokenize::{DEFAULT_PATTERN, Splitter};
pub use train::{Trained, train};

/// What a caller can get wrong. Every message says what, and which value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The split pattern does not compile, or gave up on a text.
    Pattern(String),
    /// The ranks given to an encoder are not a byte-pair vocabulary, or a size or id is out of range.
    Vocabulary(String),
    /// The text to train on is missing or damaged.
    Corpus(String),
    /// Whoever watched wanted no more.
    Stopped,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Pattern(message) | Error::Vocabulary(message) | Error::Corpus(message) => {
                f.write_str(message)
            }
            Error::Stopped => f.write_str("stopped"),
        }
    }
}

impl std::error::Error for Error {}

/// What training is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Counting pieces, in texts.
    Count,
    /// Merging pairs, in merges.
    Merge,
}

/// Called again and again with how much is done, and of how much where that is known; an error stops.
pub type Watch<'a> = &'a mut dyn FnMut(Phase, u64, Option<u64>) -> Result<(), Error>;

/// `threads`, or the number of processors for 0; never so many that starting them could fail.
fn thread_count(threads: usize) -> usize {
    const MOST: usize = 64;
    let available = || std::thread::available_parallelism().map_or(1, usize::from);
    if threads == 0 { available() } else { threads }.min(MOST)
}
