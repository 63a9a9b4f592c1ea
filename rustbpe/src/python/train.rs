//! Training from Python.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};

use super::texts::{self, Held};
use super::to_py_err;
use crate::parquet::{Limits, count_parquet};
use crate::{DEFAULT_PATTERN, Error, Phase, PieceCounter, Splitter};

/// Texts are counted in batches of about this many bytes, or of one text that is larger.
const BATCH_BYTES: usize = 16 << 20;
/// How often Ctrl-C is looked for and the caller told of progress.
const WATCH_EVERY: Duration = Duration::from_millis(100);

/// What training gave.
#[pyclass(frozen, get_all, module = "rustbpe")]
pub struct Trained {
    tokens: Py<PyList>,
    stopped_early: bool,
}

#[pymethods]
impl Trained {
    fn __repr__(&self, py: Python<'_>) -> String {
        let (len, stopped) = (self.tokens.bind(py).len(), self.stopped_early);
        let stopped = if stopped { "True" } else { "False" };
        format!("Trained({len} tokens, stopped_early={stopped})")
    }
}

#[pyfunction]
#[pyo3(signature = (texts, vocab_size, pattern = DEFAULT_PATTERN, threads = 0, progress = None))]
pub fn train(
    py: Python<'_>,
    texts: &Bound<'_, PyAny>,
    vocab_size: usize,
    pattern: &str,
    threads: usize,
    progress: Option<Py<PyAny>>,
) -> PyResult<Trained> {
    let mut watcher = Watcher::new(progress);
    let mut counter = PieceCounter::new(Splitter::new(pattern).map_err(to_py_err)?, threads);
    let (mut batch, mut first) = (Vec::new(), 0);
    let (mut bytes, mut done) = (0, 0);
    let mut items = texts::items(texts)?.enumerate();
    loop {
        let item = items.next();
        let is_end = item.is_none();
        if let Some((index, item)) = item {
            let held = Held::new(item?, index)?;
            bytes += held.len_bytes();
            batch.push(held);
        }
        if bytes >= BATCH_BYTES || is_end {
            let texts = texts::all_texts(&batch, first)?;
            let before = done;
            let counted = py.detach(|| {
                counter.add(&texts, &mut |phase, done, total| {
                    watcher.watch(phase, before + done, total)
                })
            });
            counted.map_err(|error| watcher.take_py_err(error))?;
            done += texts.len() as u64;
            first += batch.len();
            drop(texts);
            (batch, bytes) = (Vec::new(), 0);
            watcher
                .watch(Phase::Count, done, is_end.then_some(done))
                .map_err(|e| watcher.take_py_err(e))?;
        }
        if is_end {
            return watcher.finish(py, counter, vocab_size);
        }
    }
}

#[pyfunction]
#[pyo3(signature = (
    paths, vocab_size, column = "text", pattern = DEFAULT_PATTERN, threads = 0, progress = None,
    doc_cap = None, max_chars = None
))]
#[expect(clippy::too_many_arguments, reason = "Python's keyword arguments")]
pub fn train_parquet(
    py: Python<'_>,
    paths: &Bound<'_, PyAny>,
    vocab_size: usize,
    column: &str,
    pattern: &str,
    threads: usize,
    progress: Option<Py<PyAny>>,
    doc_cap: Option<u64>,
    max_chars: Option<u64>,
) -> PyResult<Trained> {
    let mut files = Vec::new();
    if paths.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err("paths is one str: give a list of paths"));
    }
    for path in paths.try_iter()? {
        files.push(path?.extract::<PathBuf>()?);
    }
    let mut watcher = Watcher::new(progress);
    let mut counter = PieceCounter::new(Splitter::new(pattern).map_err(to_py_err)?, threads);
    let limits = Limits { doc_chars: doc_cap, chars: max_chars };
    let counted = py.detach(|| {
        count_parquet(&mut counter, &files, column, limits, &mut |phase, done, total| {
            watcher.watch(phase, done, total)
        })
    });
    counted.map_err(|error| watcher.take_py_err(error))?;
    watcher.finish(py, counter, vocab_size)
}

/// Looks for Ctrl-C and calls back, now and then.
struct Watcher {
    progress: Option<Py<PyAny>>,
    last: Option<(Phase, Instant)>,
    error: Option<PyErr>,
}

impl Watcher {
    fn new(progress: Option<Py<PyAny>>) -> Self {
        Watcher { progress, last: None, error: None }
    }

    fn watch(&mut self, phase: Phase, done: u64, total: Option<u64>) -> Result<(), Error> {
        let now = Instant::now();
        let recently = self.last.is_some_and(|(last, at)| last == phase && now - at < WATCH_EVERY);
        if recently && total != Some(done) {
            return Ok(());
        }
        self.last = Some((phase, now));
        let called = Python::attach(|py| {
            py.check_signals()?;
            let name = match phase {
                Phase::Count => "count",
                Phase::Merge => "merge",
            };
            self.progress
                .as_ref()
                .map_or(Ok(()), |call| call.call1(py, (name, done, total)).map(drop))
        });
        called.map_err(|error| {
            self.error = Some(error);
            Error::Stopped
        })
    }

    /// What was raised while watching, where that is why it ended.
    fn take_py_err(&mut self, error: Error) -> PyErr {
        self.error.take().unwrap_or_else(|| to_py_err(error))
    }

    fn finish(
        mut self,
        py: Python<'_>,
        counter: PieceCounter,
        vocab_size: usize,
    ) -> PyResult<Trained> {
        let trained = py.detach(|| {
            crate::train(counter.finish(), vocab_size, &mut |phase, done, total| {
                self.watch(phase, done, total)
            })
        });
        let trained = trained.map_err(|error| self.take_py_err(error))?;
        let tokens = trained.tokens.iter().map(|token| PyBytes::new(py, token));
        Ok(Trained {
            tokens: PyList::new(py, tokens)?.unbind(),
            stopped_early: trained.stopped_early,
        })
    }
}
