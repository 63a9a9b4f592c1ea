//! Encoding from Python.

use std::collections::BTreeMap;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyInt, PyList, PyString};

use super::texts::{Held, all_texts, hold_all};
use super::{VocabularyError, to_py_err};
use crate::{DEFAULT_PATTERN, Flat, gather};

#[pyclass(frozen, module = "rustbpe")]
pub struct Encoder {
    encoder: crate::Encoder,
    /// The number of every ordinary id, so that a list of ids makes no new ones.
    ints: PyOnceLock<Vec<Py<PyInt>>>,
}

#[pymethods]
impl Encoder {
    #[new]
    #[pyo3(signature = (ranks, pattern = DEFAULT_PATTERN, special_tokens = None))]
    fn new(
        py: Python<'_>,
        ranks: &Bound<'_, PyAny>,
        pattern: &str,
        special_tokens: Option<BTreeMap<String, u32>>,
    ) -> PyResult<Self> {
        let mut held = Vec::new();
        for token in ranks.try_iter()? {
            held.push(token?.cast_into::<PyBytes>()?);
        }
        let ranks: Vec<&[u8]> = held.iter().map(|token| token.as_bytes()).collect();
        let specials = special_tokens.unwrap_or_default().into_iter().collect();
        let encoder = py.detach(|| crate::Encoder::new(&ranks, pattern, specials));
        Ok(Encoder { encoder: encoder.map_err(to_py_err)?, ints: PyOnceLock::new() })
    }

    #[pyo3(signature = (text, allowed_special = None))]
    fn encode<'py>(
        &self,
        py: Python<'py>,
        text: &Bound<'py, PyString>,
        allowed_special: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let held = [Held::new(text.clone().into_any(), 0)?];
        let text = all_texts(&held, 0)?[0];
        let allowed = self.allowed(allowed_special)?;
        let tokens = py.detach(|| match allowed.as_slice() {
            [] => self.encoder.encode(text),
            allowed => self.encoder.encode_with_special(text, allowed),
        });
        self.list(py, &tokens.map_err(to_py_err)?)
    }

    #[pyo3(signature = (texts, threads = 0))]
    fn encode_batch<'py>(
        &self,
        py: Python<'py>,
        texts: &Bound<'py, PyAny>,
        threads: usize,
    ) -> PyResult<Bound<'py, PyList>> {
        let lists = PyList::empty(py);
        for flat in self.flats(py, texts, threads)? {
            let mut begin = 0;
            for &end in &flat.ends {
                lists.append(self.list(py, &flat.tokens[begin..end])?)?;
                begin = end;
            }
        }
        Ok(lists)
    }

    #[pyo3(signature = (texts, threads = 0, dtype = "uint32"))]
    fn encode_to_numpy<'py>(
        &self,
        py: Python<'py>,
        texts: &Bound<'py, PyAny>,
        threads: usize,
        dtype: &str,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let fits = match dtype {
            "uint32" => true,
            "uint16" => self.encoder.id_limit() <= 1 << 16,
            _ => {
                return Err(PyTypeError::new_err(format!(
                    "dtype {dtype:?}: give uint16 or uint32"
                )));
            }
        };
        if !fits {
            let message =
                format!("{} ids do not fit into uint16: give uint32", self.encoder.id_limit());
            return Err(VocabularyError::new_err(message));
        }
        let flats = self.flats(py, texts, threads)?;
        let numpy = py.import("numpy")?;
        let tokens = numpy.call_method1(
            "empty",
            (flats.iter().map(|flat| flat.tokens.len()).sum::<usize>(), dtype),
        )?;
        match dtype {
            "uint16" => fill(py, &tokens, |out| gather(&flats, threads, out, |id| id as u16))?,
            _ => fill(py, &tokens, |out| gather(&flats, threads, out, |id| id))?,
        }
        let texts: usize = flats.iter().map(|flat| flat.ends.len()).sum();
        let offsets = numpy.call_method1("empty", (texts + 1, "int64"))?;
        fill(py, &offsets, |out: &mut [i64]| {
            let (mut base, mut number) = (0, 0);
            out[0] = 0;
            for flat in &flats {
                for &end in &flat.ends {
                    number += 1;
                    out[number] = (base + end) as i64;
                }
                base += flat.tokens.len();
            }
        })?;
        Ok((tokens, offsets))
    }

    fn count(&self, py: Python<'_>, text: &Bound<'_, PyString>) -> PyResult<usize> {
        let held = [Held::new(text.clone().into_any(), 0)?];
        let text = all_texts(&held, 0)?[0];
        py.detach(|| self.encoder.count(text)).map_err(to_py_err)
    }

    fn decode_bytes<'py>(
        &self,
        py: Python<'py>,
        ids: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let mut known = Vec::new();
        for id in ids.try_iter()? {
            let id = id?;
            match id.extract::<u32>() {
                Ok(id) => known.push(id),
                Err(error) if error.is_instance_of::<PyOverflowError>(py) => {
                    return Err(VocabularyError::new_err(format!("token id {id} is out of range")));
                }
                Err(error) => return Err(error),
            }
        }
        let bytes = py.detach(|| self.encoder.decode(&known)).map_err(to_py_err)?;
        Ok(PyBytes::new(py, &bytes))
    }

    #[pyo3(signature = (ids, errors = "replace"))]
    fn decode<'py>(
        &self,
        py: Python<'py>,
        ids: &Bound<'py, PyAny>,
        errors: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.decode_bytes(py, ids)?.call_method1("decode", ("utf-8", errors))
    }
}

impl Encoder {
    fn allowed(&self, allowed: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<String>> {
        match allowed {
            None => Ok(Vec::new()),
            Some(all) if all.is_instance_of::<PyString>() => match all.extract::<&str>()? {
                "all" => Ok(self.encoder.specials().iter().map(|(text, _)| text.clone()).collect()),
                other => Err(PyTypeError::new_err(format!(
                    "allowed_special is {other:?}: give a set or \"all\""
                ))),
            },
            Some(allowed) => allowed.try_iter()?.map(|text| text?.extract()).collect(),
        }
    }

    fn flats(
        &self,
        py: Python<'_>,
        texts: &Bound<'_, PyAny>,
        threads: usize,
    ) -> PyResult<Vec<Flat>> {
        let held = hold_all(texts)?;
        let texts = all_texts(&held, 0)?;
        py.detach(|| self.encoder.encode_batch(&texts, threads)).map_err(to_py_err)
    }

    fn list<'py>(&self, py: Python<'py>, tokens: &[u32]) -> PyResult<Bound<'py, PyList>> {
        let ints = self.ints.get_or_init(py, || {
            (0..self.encoder.vocab_size()).map(|id| PyInt::new(py, id).unbind()).collect()
        });
        let int = |&id: &u32| match ints.get(id as usize) {
            Some(int) => int.bind(py).clone(),
            None => PyInt::new(py, id),
        };
        PyList::new(py, tokens.iter().map(int))
    }
}

/// Lets `write` fill a numpy array of T, with the GIL released.
fn fill<T: pyo3::buffer::Element + Send>(
    py: Python<'_>,
    array: &Bound<'_, PyAny>,
    write: impl FnOnce(&mut [T]) + Send,
) -> PyResult<()> {
    let buffer = PyBuffer::<T>::get(array)?;
    if buffer.item_count() == 0 {
        return Ok(());
    }
    // SAFETY: the array was just made, is contiguous, and nobody else knows it.
    let out = unsafe {
        std::slice::from_raw_parts_mut(buffer.buf_ptr().cast::<T>(), buffer.item_count())
    };
    py.detach(|| write(out));
    Ok(())
}
