//! The borders of `DEFAULT_PATTERN` in up to 64 ASCII bytes at once, as bit sets: bit `i` is byte `i`.

/// Bytes looked at together.
pub const WIDTH: usize = 64;

/// The classes of the bytes of a window; `high` are those that are not ASCII.
#[derive(Clone, Copy, Default)]
struct Classes {
    letters: u64,
    digits: u64,
    white: u64,
    spaces: u64,
    newlines: u64,
    quotes: u64,
    high: u64,
}

#[cfg(target_arch = "x86_64")]
fn classes(window: &[u8; WIDTH]) -> Classes {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi8, _mm_cmpeq_epi8, _mm_cmplt_epi8, _mm_loadu_si128, _mm_movemask_epi8,
        _mm_or_si128, _mm_set1_epi8,
    };
    let mut all = Classes::default();
    for (at, bytes) in window.chunks_exact(16).enumerate() {
        // SAFETY: SSE2 belongs to x86_64; the load is of 16 bytes that are there, of any alignment.
        unsafe {
            let bytes = _mm_loadu_si128(bytes.as_ptr().cast::<__m128i>());
            let set = |mask: __m128i| (_mm_movemask_epi8(mask) as u32 as u64) << (16 * at);
            let equal = |byte: u8| _mm_cmpeq_epi8(bytes, _mm_set1_epi8(byte as i8));
            // bytes - first < count, unsigned, by way of the signed comparison that there is
            let range = |bytes: __m128i, first: u8, count: u8| {
                let shifted = _mm_add_epi8(bytes, _mm_set1_epi8(0x80_u8.wrapping_sub(first) as i8));
                _mm_cmplt_epi8(shifted, _mm_set1_epi8(0x80_u8.wrapping_add(count) as i8))
            };
            let lower = _mm_or_si128(bytes, _mm_set1_epi8(0x20));
            let spaces = equal(b' ');
            all.letters |= set(range(lower, b'a', 26));
            all.digits |= set(range(bytes, b'0', 10));
            all.white |= set(_mm_or_si128(spaces, range(bytes, b'\t', 5)));
            all.spaces |= set(spaces);
            all.newlines |= set(_mm_or_si128(equal(b'\n'), equal(b'\r')));
            all.quotes |= set(equal(b'\''));
            all.high |= set(bytes);
        }
    }
    all
}

#[cfg(not(target_arch = "x86_64"))]
fn classes(window: &[u8; WIDTH]) -> Classes {
    let mut all = Classes::default();
    for (at, byte) in window.iter().enumerate() {
        let set = |member: bool| u64::from(member) << at;
        all.letters |= set(byte.is_ascii_alphabetic());
        all.digits |= set(byte.is_ascii_digit());
        all.white |= set(matches!(byte, b' ' | b'\t'..=b'\r'));
        all.spaces |= set(*byte == b' ');
        all.newlines |= set(matches!(byte, b'\n' | b'\r'));
        all.quotes |= set(*byte == b'\'');
        all.high |= set(!byte.is_ascii());
    }
    all
}

/// Where pieces begin in a window that begins with one.
pub struct Borders {
    /// Bit `i`: a piece begins at byte `i`, for `0 < i <= known`.
    pub starts: u64,
    /// Beyond this byte nothing is said: it could depend on what follows.
    pub known: usize,
}

/// The borders in the first `len` bytes of `window`, the rest of which is zero. `is_end`: the text ends
/// after them. None where the first byte is not ASCII.
pub fn borders(window: &[u8; WIDTH], len: usize, is_end: bool) -> Option<Borders> {
    let classes = classes(window);
    let ascii = (classes.high.trailing_zeros() as usize).min(len);
    if ascii == 0 {
        return None;
    }
    let valid = u64::MAX >> (WIDTH - ascii);
    let starts = starts(classes, valid, window);
    let end_is_known = is_end && ascii == len;
    let tail = (classes.white | !valid).leading_ones() as usize;
    let white_tail = tail > WIDTH - ascii;
    let known = match (end_is_known, white_tail) {
        (true, _) => ascii,
        (false, true) => WIDTH - tail,
        (false, false) => ascii - 1,
    };
    let up_to_known = if known >= WIDTH { u64::MAX } else { (2_u64 << known).wrapping_sub(1) };
    Some(Borders { starts: starts & up_to_known & valid & !1, known })
}

/// A class stands for its bytes' positions; `<< 1` is "after one of these", `>> 1` "before one".
fn starts(classes: Classes, valid: u64, window: &[u8; WIDTH]) -> u64 {
    let Classes { letters, digits, white, spaces, newlines, quotes, .. } = classes;
    let (letters, digits, white) = (letters & valid, digits & valid, white & valid);
    let (newlines, blanks) = (newlines & valid, white & !newlines);
    let symbols = valid & !(letters | digits | white);

    // ` ?[^\s\p{L}\p{N}]++[\r\n]*`: the newlines right after symbols belong to them.
    let symbol_starts = symbols & !(symbols << 1) & !(spaces << 1);
    let own_newlines = newlines & !newlines.wrapping_add(newlines & (symbols << 1));
    // `[^\r\n\p{L}\p{N}]?+\p{L}+`: a blank or a lone symbol before letters belongs to them.
    let letter_starts = letters & !((letters | blanks | symbol_starts) << 1);
    // `\s*[\r\n]|\s+(?!\S)|\s+`: up to the last newline of a run, then all but its last character.
    let free = white & !own_newlines;
    let last_blanks = blanks & ((valid & !white) >> 1);
    let white_starts =
        (free & !(free << 1)) | last_blanks | after_last_newline(free, blanks, newlines);

    let mut starts = letter_starts | symbol_starts | white_starts | every_second(digits) | 1;
    // `'(?i:[sdmt]|ll|ve|re)`: what follows a contraction is a piece of its own.
    let mut candidates = quotes & (starts & symbols) & (letters >> 1);
    while candidates != 0 {
        let quote = candidates.trailing_zeros() as usize;
        candidates &= candidates - 1;
        let follow = |n: usize| window.get(quote + n).map_or(0, u8::to_ascii_lowercase);
        match (follow(1), follow(2)) {
            (b's' | b'd' | b'm' | b't', _) => starts |= bit(quote + 2),
            (b'l', b'l') | (b'v' | b'r', b'e') => starts |= bit(quote + 3),
            _ => {}
        }
    }
    starts
}

fn bit(at: usize) -> u64 {
    if at < WIDTH { 1 << at } else { 0 }
}

/// The blanks that begin after the last newline of a run of white space.
fn after_last_newline(free: u64, blanks: u64, newlines: u64) -> u64 {
    let mut begins = blanks & ((free & newlines) << 1);
    let ends = blanks.wrapping_add(begins) & !blanks;
    if ends & newlines == 0 {
        return begins;
    }
    let mut last = 0;
    while begins != 0 {
        let begin = begins & begins.wrapping_neg();
        begins ^= begin;
        if first_after(blanks, begin) & newlines == 0 {
            last |= begin;
        }
    }
    last
}

/// The first position at or after `begin` that is not in `run`.
fn first_after(run: u64, begin: u64) -> u64 {
    let outside = !run & !(begin - 1);
    outside & outside.wrapping_neg()
}

/// Of each run of bits the first, third, fifth and so on.
fn every_second(runs: u64) -> u64 {
    const EVEN: u64 = 0x5555_5555_5555_5555;
    if runs == 0 {
        return 0;
    }
    let begins = runs & !(runs << 1);
    // Adding the begins carries through their runs and so erases these.
    let from_even = runs & !runs.wrapping_add(begins & EVEN);
    (from_even & EVEN) | (runs & !from_even & !EVEN)
}
