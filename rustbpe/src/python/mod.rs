//! The Python binding: converts arguments, errors and results, and lets go of the GIL.

mod encoder;
mod texts;
mod train;

use pyo3::create_exception;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::{DEFAULT_PATTERN, Error};

create_exception!(rustbpe, BpeError, PyValueError, "Bad input; the message says what and where.");
create_exception!(rustbpe, PatternError, BpeError, "The pattern does not compile or gave up.");
create_exception!(rustbpe, VocabularyError, BpeError, "No such vocabulary, size or token id.");
create_exception!(rustbpe, CorpusError, BpeError, "The text is missing or damaged.");

fn to_py_err(error: Error) -> PyErr {
    let message = error.to_string();
    match error {
        Error::Pattern(_) => PatternError::new_err(message),
        Error::Vocabulary(_) => VocabularyError::new_err(message),
        Error::Corpus(_) => CorpusError::new_err(message),
        Error::Stopped => BpeError::new_err(message),
    }
}

#[pymodule]
fn rustbpe(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("DEFAULT_PATTERN", DEFAULT_PATTERN)?;
    module.add("BpeError", py.get_type::<BpeError>())?;
    module.add("PatternError", py.get_type::<PatternError>())?;
    module.add("VocabularyError", py.get_type::<VocabularyError>())?;
    module.add("CorpusError", py.get_type::<CorpusError>())?;
    module.add_function(wrap_pyfunction!(train::train, module)?)?;
    module.add_function(wrap_pyfunction!(train::train_parquet, module)?)?;
    module.add_class::<train::Trained>()?;
    module.add_class::<encoder::Encoder>()
}
