//! Exact byte-pair encoding.
//!
//! `pretokenize` cuts text into pieces, `train` learns merges from piece counts, `encode` applies
//! them. None of the three knows Python; `python` (feature of that name) is the binding only.

mod encode;
mod pretokenize;
#[cfg(feature = "python")]
mod python;
mod train;

use std::fmt;

pub use encode::Encoder;
pub use pretokenize::{DEFAULT_PATTERN, Splitter};
pub use train::{PieceCounter, train};

/// What a caller can get wrong. Every message says what, and which value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The split pattern does not compile, or gave up on a text.
    Pattern(String),
    /// The ranks given to an encoder are not a byte-pair vocabulary, or a size is out of range.
    Vocabulary(String),
    /// The text has no pair left to merge: `largest` is the biggest vocabulary it supports.
    TooLarge { asked: usize, largest: usize },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Pattern(message) | Error::Vocabulary(message) => f.write_str(message),
            Error::TooLarge { asked, largest } => write!(
                f,
                "vocab_size {asked} is more than the text supports: the largest possible is {largest}"
            ),
        }
    }
}

impl std::error::Error for Error {}

/// `threads`, or the number of processors for 0; never so many that starting them could fail.
fn thread_count(threads: usize) -> usize {
    const MOST: usize = 64;
    let available = || std::thread::available_parallelism().map_or(1, usize::from);
    if threads == 0 { available() } else { threads }.min(MOST)
}
