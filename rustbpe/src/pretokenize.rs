//! Cutting text into pieces; merges never cross the border of a piece.

use std::sync::LazyLock;

use fancy_regex::Regex;
use regex_syntax::hir::{Class as HirClass, HirKind};

use crate::Error;
use crate::window::{Borders, WIDTH, borders};

/// GPT-4's split pattern, but with numbers of at most two digits: contractions, words with one
/// leading symbol, numbers, symbols with one leading space, newlines, other white space.
pub const DEFAULT_PATTERN: &str = concat!(
    r"'(?i:[sdmt]|ll|ve|re)",
    r"|[^\r\n\p{L}\p{N}]?+\p{L}+",
    r"|\p{N}{1,2}",
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*",
    r"|\s*[\r\n]",
    r"|\s+(?!\S)|\s+",
);

/// Splits by a pattern: the default one by a hand-written scanner that is linear for any text, any
/// other by a backtracking regex engine that may give up (`Error::Pattern`).
#[derive(Clone)]
pub enum Splitter {
    Default,
    Regex(Box<Regex>),
}

impl Splitter {
    pub fn new(pattern: &str) -> Result<Self, Error> {
        if pattern == DEFAULT_PATTERN {
            return Ok(Splitter::Default);
        }
        Self::regex(pattern)
    }

    fn regex(pattern: &str) -> Result<Self, Error> {
        match Regex::new(pattern) {
            Ok(regex) => Ok(Splitter::Regex(Box::new(regex))),
            Err(error) => Err(Error::Pattern(format!("pattern {pattern:?}: {error}"))),
        }
    }

    /// Calls `visit` with where each piece of `text` begins and ends, in order. The default pattern
    /// covers every text; what another pattern does not match is left out.
    #[inline]
    pub fn split(&self, text: &str, mut visit: impl FnMut(usize, usize)) -> Result<(), Error> {
        match self {
            Splitter::Default => split_default(text, visit),
            Splitter::Regex(regex) => {
                for found in regex.find_iter(text) {
                    let found = found
                        .map_err(|e| Error::Pattern(format!("pattern gave up on a text: {e}")))?;
                    if !found.as_str().is_empty() {
                        visit(found.start(), found.end());
                    }
                }
            }
        }
        Ok(())
    }
}

/// Window by window, each beginning with a piece; by character where a window says nothing.
#[inline]
fn split_default(text: &str, mut visit: impl FnMut(usize, usize)) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let mut padded = [0; WIDTH];
        let (window, len) = match rest.first_chunk() {
            Some(window) => (window, WIDTH),
            None => {
                padded[..rest.len()].copy_from_slice(rest);
                (&padded, rest.len())
            }
        };
        let mut begin = at;
        if let Some(Borders { mut starts, known }) = borders(window, len, len == rest.len()) {
            while starts != 0 {
                let end = at + starts.trailing_zeros() as usize;
                visit(begin, end);
                begin = end;
                starts &= starts - 1;
            }
            if known == rest.len() {
                return visit(begin, bytes.len());
            }
        }
        if begin == at {
            begin += first_piece_len(&text[at..]);
            visit(at, begin);
        }
        at = begin;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Number,
    Space,
    Other,
}

/// The class of every code point, from the tables of the regex engine, so that both ways of
/// splitting know the same Unicode version.
static CLASSES: LazyLock<Vec<Class>> = LazyLock::new(|| {
    let mut classes = vec![Class::Other; char::MAX as usize + 1];
    for (pattern, class) in
        [(r"\p{L}", Class::Letter), (r"\p{N}", Class::Number), (r"\s", Class::Space)]
    {
        let hir = regex_syntax::parse(pattern).expect("a constant pattern");
        let HirKind::Class(HirClass::Unicode(ranges)) = hir.kind() else {
            unreachable!("{pattern} is a Unicode class")
        };
        for range in ranges.ranges() {
            classes[range.start() as usize..=range.end() as usize].fill(class);
        }
    }
    classes
});

fn class(c: char) -> Class {
    CLASSES[c as usize]
}

/// Length in bytes of the characters of class `wanted` that `text` begins with.
fn run_len(text: &str, wanted: Class) -> usize {
    text.find(|c| class(c) != wanted).unwrap_or(text.len())
}

/// Length in bytes of the first match of `DEFAULT_PATTERN` in `text`, which is not empty.
fn first_piece_len(text: &str) -> usize {
    let mut chars = text.chars();
    let first = chars.next().expect("text is not empty");
    let rest = chars.as_str();
    let (first_class, second_class) = (class(first), chars.next().map(class));

    if let ('\'', Some(len)) = (first, contraction_len(rest)) {
        return 1 + len;
    }
    match first_class {
        Class::Letter => run_len(text, Class::Letter),
        Class::Number if second_class == Some(Class::Number) => text.len() - chars.as_str().len(),
        Class::Number => first.len_utf8(),
        _ if second_class == Some(Class::Letter) && !is_newline(first) => {
            first.len_utf8() + run_len(rest, Class::Letter)
        }
        Class::Other => symbols_len(text),
        Class::Space if first == ' ' && second_class == Some(Class::Other) => 1 + symbols_len(rest),
        Class::Space => white_space_len(text),
    }
}

fn is_newline(c: char) -> bool {
    c == '\r' || c == '\n'
}

/// `(?i:[sdmt]|ll|ve|re)`; ignoring case, ſ is an s.
fn contraction_len(text: &str) -> Option<usize> {
    let mut chars = text.chars();
    match chars.next()? {
        's' | 'S' | 'd' | 'D' | 'm' | 'M' | 't' | 'T' => Some(1),
        'ſ' => Some('ſ'.len_utf8()),
        'l' | 'L' => matches!(chars.next()?, 'l' | 'L').then_some(2),
        'v' | 'V' | 'r' | 'R' => matches!(chars.next()?, 'e' | 'E').then_some(2),
        _ => None,
    }
}

/// `[^\s\p{L}\p{N}]++[\r\n]*`
fn symbols_len(text: &str) -> usize {
    let symbols = run_len(text, Class::Other);
    let after = &text[symbols..];
    symbols + after.find(|c| !is_newline(c)).unwrap_or(after.len())
}

/// `\s*[\r\n]|\s+(?!\S)|\s+`: up to the last newline of the run; else all of it, but the last
/// character is left to the word that follows.
fn white_space_len(text: &str) -> usize {
    let run = &text[..run_len(text, Class::Space)];
    if let Some(newline) = run.rfind(is_newline) {
        return newline + 1;
    }
    let last = run.chars().next_back().map_or(0, char::len_utf8);
    if run.len() == text.len() || run.len() == last { run.len() } else { run.len() - last }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces<'t>(splitter: &Splitter, text: &'t str) -> Vec<&'t str> {
        let mut pieces = Vec::new();
        splitter.split(text, |start, end| pieces.push(&text[start..end])).unwrap();
        pieces
    }

    fn assert_scanner_equals_regex(regex: &Splitter, text: &str) {
        assert_eq!(pieces(&Splitter::Default, text), pieces(regex, text), "{text:?}");
    }

    #[test]
    fn a_sentence_is_cut_as_documented() {
        let text = "It's 2024,  isn't\tit?!\n\n  Yes";
        let expected =
            ["It", "'s", " ", "20", "24", ",", " ", " isn", "'t", "\tit", "?!\n\n", " ", " Yes"];
        assert_eq!(pieces(&Splitter::Default, text), expected);
    }

    #[test]
    fn scanner_equals_regex_on_every_assigned_code_point_in_context() {
        let regex = Splitter::regex(DEFAULT_PATTERN).unwrap();
        for c in ('\0'..='\u{3ffff}').chain('\u{e0000}'..='\u{e0fff}').chain([char::MAX]) {
            assert_scanner_equals_regex(&regex, &format!("'{c}{c}e {c}x 1{c}2 \n{c}  {c}\r!{c}"));
        }
    }

    fn assert_equal_on_random_strings(alphabet: &str, longest: usize, count: usize) {
        let alphabet: Vec<char> = alphabet.chars().collect();
        let regex = Splitter::regex(DEFAULT_PATTERN).unwrap();
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize
        };
        for _ in 0..count {
            let len = next() % longest;
            let text: String = (0..len).map(|_| alphabet[next() % alphabet.len()]).collect();
            assert_scanner_equals_regex(&regex, &text);
        }
    }

    #[test]
    fn scanner_equals_regex_on_random_strings() {
        let mixed = " \t\r\n\u{a0}\u{2028}'’ſsSdmtlLvVrReExyéK漢あ가1२Ⅷ½.,!?🤖\u{301}\u{200d}\0   '' \n\n11ab";
        assert_equal_on_random_strings(mixed, 14, 100_000);
        assert_equal_on_random_strings(mixed, 300, 5_000);
    }

    #[test]
    fn windows_equal_regex_on_random_ascii() {
        for alphabet in [
            "   \n\r\t.'slvead12",
            " \n.a",
            " \n",
            "1 a'll",
            "'sS re\n",
            "abcdefgh 1234567890 !\"#.,\u{b}\u{1c}\0\u{7f}\n",
        ] {
            assert_equal_on_random_strings(alphabet, 20, 30_000);
            assert_equal_on_random_strings(alphabet, 200, 10_000);
        }
    }

    #[test]
    fn a_million_spaces_are_one_piece() {
        let text = " ".repeat(1_000_000);
        assert_eq!(pieces(&Splitter::Default, &text), [text.as_str()]);
    }

    #[test]
    fn a_pattern_that_gives_up_is_an_error() {
        let regex = Splitter::regex(DEFAULT_PATTERN).unwrap();
        let text = " ".repeat(4_000_000) + "x";
        assert!(matches!(regex.split(&text, |_, _| ()), Err(Error::Pattern(_))));
    }

    #[test]
    fn a_pattern_that_does_not_compile_is_an_error() {
        assert!(matches!(Splitter::new("(a"), Err(Error::Pattern(_))));
    }
}
