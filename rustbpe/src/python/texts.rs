//! Python's texts as `&str`, without copies: of `str` objects and of Arrow string arrays.

use std::fmt::Display;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use super::CorpusError;

/// What keeps the memory of some texts alive.
pub enum Held<'py> {
    Ascii(Bound<'py, PyString>),
    /// Of any other text; in the text itself such a copy would stay as long as it lives.
    Utf8(Bound<'py, PyBytes>),
    Arrow(ArrowTexts),
}

impl<'py> Held<'py> {
    /// `item` is number `index` of what the caller gave.
    pub fn new(item: Bound<'py, PyAny>, index: usize) -> PyResult<Self> {
        if is_array(&item) {
            return ArrowTexts::new(&item).map(Held::Arrow);
        }
        let text = item.cast_into::<PyString>().map_err(|error| {
            let kind = error.into_inner().get_type().to_string();
            PyTypeError::new_err(format!(
                "texts[{index}] is a {kind}: give str or Arrow string arrays"
            ))
        })?;
        if text.call_method0("isascii")?.is_truthy()? {
            return Ok(Held::Ascii(text));
        }
        text.encode_utf8().map(Held::Utf8).map_err(|error| no_unicode(index, &error))
    }

    /// About how many bytes this takes.
    pub fn len_bytes(&self) -> usize {
        const OF_THE_OBJECT: usize = 64;
        OF_THE_OBJECT
            + match self {
                Held::Ascii(text) => text.len().unwrap_or(0),
                Held::Utf8(text) => text.as_bytes().len(),
                Held::Arrow(array) => array.len_bytes().unwrap_or(0),
            }
    }

    /// Appends the texts; they live as long as this.
    fn append_to<'a>(&'a self, index: usize, texts: &mut Vec<&'a str>) -> PyResult<()> {
        match self {
            Held::Ascii(text) => {
                texts.push(text.to_str().map_err(|error| no_unicode(index, &error))?);
            }
            Held::Utf8(text) => {
                let text = std::str::from_utf8(text.as_bytes());
                texts.push(text.map_err(|error| no_unicode(index, &error))?);
            }
            Held::Arrow(array) => array.append_to(texts)?,
        }
        Ok(())
    }
}

fn no_unicode(index: usize, error: &dyn Display) -> PyErr {
    CorpusError::new_err(format!("texts[{index}] is no Unicode: {error}"))
}

/// All of `texts`: a sequence of str, an Arrow string array, or a sequence of these.
pub fn hold_all<'py>(texts: &Bound<'py, PyAny>) -> PyResult<Vec<Held<'py>>> {
    let items = items(texts)?;
    items.enumerate().map(|(index, item)| Held::new(item?, index)).collect()
}

/// The texts of `held`, of which the first one has the number `first`.
pub fn all_texts<'a>(held: &'a [Held<'_>], first: usize) -> PyResult<Vec<&'a str>> {
    let mut texts = Vec::with_capacity(held.len());
    for (index, item) in held.iter().enumerate() {
        item.append_to(first + index, &mut texts)?;
    }
    Ok(texts)
}

type Items<'py> = Box<dyn Iterator<Item = PyResult<Bound<'py, PyAny>>> + 'py>;

/// Iterates over `texts`; an Arrow array is one item, of a chunked one each chunk.
pub fn items<'py>(texts: &Bound<'py, PyAny>) -> PyResult<Items<'py>> {
    if texts.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err("texts is one str: give an iterable of str"));
    }
    if is_array(texts) {
        return Ok(Box::new(std::iter::once(Ok(texts.clone()))));
    }
    match texts.getattr_opt("chunks")? {
        Some(chunks) => Ok(Box::new(chunks.try_iter()?)),
        None => Ok(Box::new(texts.try_iter()?)),
    }
}

fn is_array(item: &Bound<'_, PyAny>) -> bool {
    !item.is_instance_of::<PyString>() && item.hasattr("buffers").unwrap_or(false)
}

/// A pyarrow array of type string or large_string.
pub struct ArrowTexts {
    offsets: Option<PyBuffer<i8>>,
    data: Option<PyBuffer<i8>>,
    /// Bytes of one offset: 4 or 8.
    width: usize,
    first: usize,
    len: usize,
}

impl ArrowTexts {
    fn new(array: &Bound<'_, PyAny>) -> PyResult<Self> {
        let kind = array.getattr("type")?.str()?.to_string();
        let width = match kind.as_str() {
            "string" => 4,
            "large_string" => 8,
            _ => {
                let message =
                    format!("an Arrow array of type {kind}: give string or large_string (cast it)");
                return Err(PyTypeError::new_err(message));
            }
        };
        let nulls: usize = array.getattr("null_count")?.extract()?;
        if nulls > 0 {
            let message =
                format!("an Arrow array holds {nulls} nulls: drop them first (drop_null)");
            return Err(CorpusError::new_err(message));
        }
        let buffers: Vec<Option<Bound<'_, PyAny>>> = array.call_method0("buffers")?.extract()?;
        let [_, offsets, data] = buffers.as_slice() else {
            return Err(PyTypeError::new_err("an Arrow string array has three buffers"));
        };
        let texts = ArrowTexts {
            offsets: buffer(offsets)?,
            data: buffer(data)?,
            width,
            first: array.getattr("offset")?.extract()?,
            len: array.len()?,
        };
        let bytes = (texts.first.checked_add(texts.len))
            .and_then(|offsets| offsets.checked_add(1)?.checked_mul(width))
            .filter(|&bytes| texts.len == 0 || bytes <= bytes_of(&texts.offsets).len());
        bytes.map(|_| texts).ok_or_else(damaged)
    }

    /// Where text `index` of the whole buffer begins.
    fn offset(&self, index: usize) -> Option<usize> {
        let bytes = bytes_of(&self.offsets).get(index * self.width..(index + 1) * self.width)?;
        match self.width {
            4 => u32::from_le_bytes(bytes.try_into().ok()?).try_into().ok(),
            _ => u64::from_le_bytes(bytes.try_into().ok()?).try_into().ok(),
        }
    }

    fn len_bytes(&self) -> Option<usize> {
        self.offset(self.first + self.len)?.checked_sub(self.offset(self.first)?)
    }

    fn append_to<'a>(&'a self, texts: &mut Vec<&'a str>) -> PyResult<()> {
        if self.len == 0 {
            return Ok(());
        }
        let offset = |index| self.offset(index);
        let begin: usize = offset(self.first).ok_or_else(damaged)?;
        let end = offset(self.first + self.len).ok_or_else(damaged)?;
        let data = bytes_of(&self.data).get(begin..end).ok_or_else(damaged)?;
        let all = std::str::from_utf8(data).map_err(|error| {
            CorpusError::new_err(format!(
                "an Arrow array is no UTF-8 at byte {}",
                begin + error.valid_up_to()
            ))
        })?;
        texts.reserve(self.len);
        let mut at = begin;
        for index in self.first + 1..=self.first + self.len {
            let next = offset(index).ok_or_else(damaged)?;
            let text = next.checked_sub(at).and_then(|_| all.get(at - begin..next - begin));
            texts.push(text.ok_or_else(damaged)?);
            at = next;
        }
        Ok(())
    }
}

fn damaged() -> PyErr {
    CorpusError::new_err("an Arrow array has offsets outside its buffers")
}

fn buffer(bytes: &Option<Bound<'_, PyAny>>) -> PyResult<Option<PyBuffer<i8>>> {
    let Some(bytes) = bytes else { return Ok(None) };
    let buffer = PyBuffer::get(bytes)?;
    if !buffer.is_c_contiguous() {
        return Err(PyTypeError::new_err("an Arrow array has a buffer that is not contiguous"));
    }
    Ok(Some(buffer))
}

fn bytes_of(buffer: &Option<PyBuffer<i8>>) -> &[u8] {
    match buffer {
        // SAFETY: the buffer is contiguous, of that many bytes and alive; Arrow's buffers do not change.
        Some(buffer) if buffer.len_bytes() > 0 => unsafe {
            std::slice::from_raw_parts(buffer.buf_ptr().cast(), buffer.len_bytes())
        },
        _ => &[],
    }
}
