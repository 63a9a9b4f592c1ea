//! Counting the pieces of a text column straight from Parquet files.

use std::fmt::Display;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

use parquet::column::reader::get_typed_column_reader;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};

use crate::count::{PieceCounts, watch_until_done};
use crate::{Error, PieceCounter, Splitter, Watch};

/// How much of the text counts; None means all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// Characters of each document.
    pub doc_chars: Option<u64>,
    /// Characters in all, in the order of files and rows.
    pub chars: Option<u64>,
}

struct Group<'a> {
    path: &'a Path,
    number: usize,
    column: usize,
}

/// Counts the pieces of `column` in `paths`. Each thread takes row group after row group, so that many
/// are held at once. Nulls are left out.
pub fn count_parquet(
    counter: &mut PieceCounter,
    paths: &[PathBuf],
    column: &str,
    limits: Limits,
    watch: Watch,
) -> Result<(), Error> {
    let (mut groups, mut rows) = (Vec::new(), 0);
    for path in paths {
        rows += list_groups(path, column, &mut groups)?;
    }
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let budget = Budget::new(limits.chars);
    let (splitter, by_thread) = counter.parts();
    thread::scope(|scope| {
        let (sender, receiver) = channel();
        let worker = |counts, sender: Sender<u64>| {
            let worked = work(&groups, &next, &stop, limits, &budget, splitter, counts, &sender);
            if worked.is_err() {
                stop.store(true, Ordering::Relaxed);
                budget.close();
            }
            worked.err()
        };
        let workers: Vec<_> = (by_thread.iter_mut())
            .map(|counts| (counts, sender.clone()))
            .map(|(counts, sender)| scope.spawn(move || worker(counts, sender)))
            .collect();
        drop(sender);
        let watched = watch_until_done(&receiver, Some(rows), &stop, watch);
        let failed =
            workers.into_iter().filter_map(|worker| worker.join().expect("counting never panics"));
        // Of several the first in the corpus, whoever was quicker.
        let first = failed.min_by_key(|(turn, _)| *turn);
        watched.and(first.map_or(Ok(()), |(_, error)| Err(error)))
    })
}

#[expect(clippy::too_many_arguments, reason = "what the threads share")]
fn work(
    groups: &[Group],
    next: &AtomicUsize,
    stop: &AtomicBool,
    limits: Limits,
    budget: &Budget,
    splitter: &Splitter,
    counts: &mut PieceCounts,
    sender: &Sender<u64>,
) -> Result<(), (usize, Error)> {
    let splitter = splitter.clone();
    loop {
        let turn = next.fetch_add(1, Ordering::Relaxed);
        let Some(group) = groups.get(turn).filter(|_| !budget.is_spent()) else { return Ok(()) };
        let (rows, values) = match group.read() {
            Ok(read) => read,
            Err(error) => return budget.fail(turn, error),
        };
        let mut texts = Vec::with_capacity(values.len());
        for (row, value) in values.iter().enumerate() {
            let text = match std::str::from_utf8(value.data()) {
                Ok(text) => text,
                Err(error) => {
                    let error = group.error(format!("text {row} is no UTF-8: {error}"));
                    return budget.fail(turn, error);
                }
            };
            texts.push(limits.doc_chars.map_or(text, |chars| first_chars(text, chars)));
        }
        if limits.chars.is_some() {
            budget.spend(turn, &mut texts);
        }
        for text in &texts {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            counts.add_text(&splitter, text, stop).map_err(|error| (turn, error))?;
        }
        // The receiver lives as long as the threads.
        let _ = sender.send(rows as u64);
    }
}

/// Appends the row groups of a file; returns its number of rows.
fn list_groups<'a>(
    path: &'a Path,
    column: &str,
    groups: &mut Vec<Group<'a>>,
) -> Result<u64, Error> {
    let failed = |error: &dyn Display| Error::Corpus(format!("{}: {error}", path.display()));
    let file = File::open(path).map_err(|error| failed(&error))?;
    let reader =
        unless_panic(|| SerializedFileReader::new(file)).map_err(|error| failed(&error))?;
    let metadata = reader.metadata();
    let columns = metadata.file_metadata().schema_descr().columns();
    let is_text = |c: &parquet::schema::types::ColumnDescPtr| {
        c.physical_type() == parquet::basic::Type::BYTE_ARRAY && c.max_rep_level() == 0
    };
    let Some(index) = columns.iter().position(|c| c.path().string() == column && is_text(c)) else {
        let names: Vec<_> =
            columns.iter().filter(|c| is_text(c)).map(|c| c.path().string()).collect();
        let message = format!("{}: no text column {column:?}: it has {names:?}", path.display());
        return Err(Error::Corpus(message));
    };
    groups.extend((0..metadata.num_row_groups()).map(|number| Group {
        path,
        number,
        column: index,
    }));
    Ok(metadata.file_metadata().num_rows().try_into().unwrap_or(0))
}

/// The result of `read`; where a damaged file makes the reader panic, an error.
fn unless_panic<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    let damaged = |_| Err(ParquetError::General("the file is damaged".into()));
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)).unwrap_or_else(damaged)
}

impl Group<'_> {
    fn error(&self, what: String) -> Error {
        Error::Corpus(format!("{}: row group {}: {what}", self.path.display(), self.number))
    }

    /// The number of rows, and the values of those that are not null.
    fn read(&self) -> Result<(usize, Vec<ByteArray>), Error> {
        unless_panic(|| self.try_read()).map_err(|error| self.error(error.to_string()))
    }

    fn try_read(&self) -> Result<(usize, Vec<ByteArray>), ParquetError> {
        let reader = SerializedFileReader::new(File::open(self.path)?)?;
        let group = reader.get_row_group(self.number)?;
        let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
        let mut column =
            get_typed_column_reader::<ByteArrayType>(group.get_column_reader(self.column)?);
        let (mut values, mut levels, mut read) = (Vec::new(), Vec::new(), 0);
        while read < rows {
            let (records, ..) =
                column.read_records(rows - read, Some(&mut levels), None, &mut values)?;
            if records == 0 {
                return Err(ParquetError::General(format!("ends after {read} of {rows} rows")));
            }
            read += records;
        }
        Ok((rows, values))
    }
}

/// The first `chars` characters of `text`.
fn first_chars(text: &str, chars: u64) -> &str {
    let chars = usize::try_from(chars).unwrap_or(usize::MAX);
    if text.len() <= chars {
        return text;
    }
    text.char_indices().nth(chars).map_or(text, |(end, _)| &text[..end])
}

/// Characters left, handed out to the row groups in their order.
struct Budget {
    /// (whose turn it is, characters left); closed when nobody's turn comes any more.
    state: Mutex<(usize, u64)>,
    moved: Condvar,
    limited: bool,
}

impl Budget {
    fn new(chars: Option<u64>) -> Self {
        let state = Mutex::new((0, chars.unwrap_or(u64::MAX)));
        Budget { state, moved: Condvar::new(), limited: chars.is_some() }
    }

    /// Cuts `texts` of the row group `turn` to what is left when its turn has come.
    fn spend(&self, turn: usize, texts: &mut Vec<&str>) {
        let sizes: Vec<u64> = texts.iter().map(|text| text.chars().count() as u64).collect();
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = self.moved.wait_while(state, |(now, _)| *now < turn);
        let mut state = waiting.unwrap_or_else(PoisonError::into_inner);
        for (number, (text, size)) in texts.iter_mut().zip(sizes).enumerate() {
            if state.1 < size {
                *text = first_chars(text, state.1);
                state.1 = 0;
                texts.truncate(number + 1);
                break;
            }
            state.1 -= size;
        }
        // Where nothing is left nobody has to wait for a turn, and turns are skipped.
        state.0 = if state.1 == 0 { usize::MAX } else { state.0.max(turn + 1) };
        self.moved.notify_all();
    }

    /// What the row group `turn`, which cannot be read, means: nothing where the others before it have
    /// spent all, whoever was quicker.
    fn fail(&self, turn: usize, error: Error) -> Result<(), (usize, Error)> {
        if self.limited {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let state = self.moved.wait_while(state, |(now, _)| *now < turn);
            if state.unwrap_or_else(PoisonError::into_inner).1 == 0 {
                return Ok(());
            }
        }
        Err((turn, error))
    }

    fn is_spent(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1 == 0
    }

    /// Lets all who wait go on: one of the row groups before theirs failed.
    fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 = usize::MAX;
        self.moved.notify_all();
    }
}
