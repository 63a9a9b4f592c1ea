//! The Python binding: converts arguments, errors and results, and lets go of the GIL.

use pyo3::create_exception;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use crate::{DEFAULT_PATTERN, Error, PieceCounter, Splitter};

create_exception!(
    rustbpe,
    VocabularyTooLarge,
    PyValueError,
    "The text supports no vocabulary as large; attribute `largest` is the largest possible."
);

fn to_py_err(py: Python<'_>, error: Error) -> PyErr {
    let Error::TooLarge { largest, .. } = error else {
        return PyValueError::new_err(error.to_string());
    };
    let exception = VocabularyTooLarge::new_err(error.to_string());
    match exception.value(py).setattr("largest", largest) {
        Ok(()) => exception,
        Err(error) => error,
    }
}

/// Texts are counted in batches of about this many bytes; more are never held at once.
const BATCH_BYTES: usize = 16 << 20;

#[pyfunction]
#[pyo3(signature = (texts, vocab_size, pattern = DEFAULT_PATTERN, threads = 0))]
fn train<'py>(
    py: Python<'py>,
    texts: &Bound<'py, PyAny>,
    vocab_size: usize,
    pattern: &str,
    threads: usize,
) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    if texts.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err("texts is one str: give an iterable of str"));
    }
    let splitter = Splitter::new(pattern).map_err(|error| to_py_err(py, error))?;
    let mut counter = PieceCounter::new(splitter, threads);
    let (mut batch, mut batch_bytes) = (Vec::new(), 0);
    for (index, text) in texts.try_iter()?.enumerate() {
        let text = text?;
        let Ok(text) = text.cast_into::<PyString>() else {
            return Err(PyTypeError::new_err(format!("texts[{index}] is not a str")));
        };
        batch_bytes += utf8(&text, index)?.len();
        batch.push(text);
        if batch_bytes >= BATCH_BYTES {
            count(py, &mut counter, &batch)?;
            (batch, batch_bytes) = (Vec::new(), 0);
        }
    }
    count(py, &mut counter, &batch)?;
    let tokens = py
        .detach(|| crate::train(&counter.finish(), vocab_size))
        .map_err(|error| to_py_err(py, error))?;
    Ok(tokens.iter().map(|token| PyBytes::new(py, token)).collect())
}

fn count(
    py: Python<'_>,
    counter: &mut PieceCounter,
    batch: &[Bound<'_, PyString>],
) -> PyResult<()> {
    let texts = all_utf8(batch)?;
    py.detach(|| counter.add(&texts)).map_err(|error| to_py_err(py, error))
}

fn utf8<'a>(text: &'a Bound<'_, PyString>, index: usize) -> PyResult<&'a str> {
    text.to_str().map_err(|error| PyValueError::new_err(format!("texts[{index}]: {error}")))
}

fn all_utf8<'a>(texts: &'a [Bound<'_, PyString>]) -> PyResult<Vec<&'a str>> {
    texts.iter().enumerate().map(|(index, text)| utf8(text, index)).collect()
}

#[pyclass(frozen, module = "rustbpe")]
struct Encoder(crate::Encoder);

#[pymethods]
impl Encoder {
    #[new]
    #[pyo3(signature = (ranks, pattern = DEFAULT_PATTERN))]
    fn new(py: Python<'_>, ranks: Vec<Bound<'_, PyBytes>>, pattern: &str) -> PyResult<Self> {
        let ranks: Vec<&[u8]> = ranks.iter().map(|token| token.as_bytes()).collect();
        let encoder = py.detach(|| crate::Encoder::new(&ranks, pattern));
        encoder.map(Encoder).map_err(|error| to_py_err(py, error))
    }

    fn encode(&self, py: Python<'_>, text: &str) -> PyResult<Vec<u32>> {
        py.detach(|| self.0.encode(text)).map_err(|error| to_py_err(py, error))
    }

    #[pyo3(signature = (texts, threads = 0))]
    fn encode_batch(
        &self,
        py: Python<'_>,
        texts: Vec<Bound<'_, PyString>>,
        threads: usize,
    ) -> PyResult<Vec<Vec<u32>>> {
        let texts = all_utf8(&texts)?;
        py.detach(|| self.0.encode_batch(&texts, threads)).map_err(|error| to_py_err(py, error))
    }
}

#[pymodule]
fn rustbpe(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("DEFAULT_PATTERN", DEFAULT_PATTERN)?;
    module.add("VocabularyTooLarge", module.py().get_type::<VocabularyTooLarge>())?;
    module.add_function(wrap_pyfunction!(train, module)?)?;
    module.add_class::<Encoder>()
}
