//! The tokens of one piece that is not a token as a whole.

use crate::vocabulary::{NONE, Vocabulary};

/// Bytes that are merged by looking for the lowest rank again and again. That is quadratic, but with few
/// bytes, of which a machine compares several at once, it is the quickest way.
const SCANNED: usize = 128;

/// Pushes the tokens of `piece`: always the pair of the lowest rank is merged, the leftmost first, until
/// there is none. Linear in the length of the piece.
pub fn encode_piece(vocabulary: &Vocabulary, piece: &[u8], tokens: &mut Vec<u32>) {
    let mut begin = 0;
    for end in 1..=piece.len() {
        // Between bytes that are next to each other in no token nothing is ever merged.
        if end == piece.len() || !vocabulary.may_join(piece[end - 1], piece[end]) {
            let part = &piece[begin..end];
            match part.len() {
                1 => tokens.push(vocabulary.byte_ids[usize::from(part[0])]),
                2..=16 => encode_by_scanning::<16>(vocabulary, part, tokens),
                17..=32 => encode_by_scanning::<32>(vocabulary, part, tokens),
                33..=64 => encode_by_scanning::<64>(vocabulary, part, tokens),
                65..=SCANNED => encode_by_scanning::<SCANNED>(vocabulary, part, tokens),
                _ => encode_by_backtracking(vocabulary, part, tokens),
            }
            begin = end;
        }
    }
}

/// At most `SIZE` bytes, by the definition. A token stands at its first byte.
fn encode_by_scanning<const SIZE: usize>(
    vocabulary: &Vocabulary,
    piece: &[u8],
    tokens: &mut Vec<u32>,
) {
    const NOTHING: i32 = i32::MAX;
    let len = piece.len();
    let mut ids = [NONE; SIZE];
    let (mut before, mut after) = ([0_u8; SIZE], [0_u8; SIZE]);
    // Rank (21 bits) of the token at a byte with the next one, and this byte: the least is the leftmost lowest.
    let mut ranks = [NOTHING; SIZE];
    let ranked =
        |rank: Option<u32>, at: usize| rank.map_or(NOTHING, |rank| (rank << 8) as i32 | at as i32);
    for at in 0..len {
        ids[at] = vocabulary.byte_ids[usize::from(piece[at])];
        (before[at], after[at]) = ((at as u8).wrapping_sub(1), at as u8 + 1);
    }
    for at in 1..len {
        ranks[at - 1] = ranked(vocabulary.merged_bytes(piece[at - 1], piece[at]), at - 1);
    }
    loop {
        let lowest = ranks.iter().fold(NOTHING, |lowest, &rank| lowest.min(rank));
        if lowest == NOTHING {
            break;
        }
        let (at, id) = ((lowest & 0xff) as usize, (lowest >> 8) as u32);
        let absorbed = usize::from(after[at]);
        let next = usize::from(after[absorbed]);
        (ids[at], ids[absorbed], after[at]) = (id, NONE, next as u8);
        (ranks[at], ranks[absorbed]) = (NOTHING, NOTHING);
        if next < len {
            before[next] = at as u8;
            ranks[at] = ranked(vocabulary.merged(id, ids[next]), at);
        }
        if at > 0 {
            let previous = usize::from(before[at]);
            ranks[previous] = ranked(vocabulary.merged(ids[previous], id), previous);
        }
    }
    tokens.extend(ids[..len].iter().filter(|&&id| id != NONE));
}

/// Any number of bytes in linear time: the only row of tokens of which all neighbours stay apart.
///
/// Takes the longest token that comes next and fits the one before it, else shorter ones, else goes one
/// token back; an end from which there was no way on is never tried again. (Backtracking encoder of
/// H. van Antwerpen and A. Neubeck, "So many tokens, so little time", GitHub 2024.)
fn encode_by_backtracking(vocabulary: &Vocabulary, piece: &[u8], tokens: &mut Vec<u32>) {
    let first = tokens.len();
    let mut dead_ends = vec![0_u64; piece.len() / 64 + 1];
    let mut at = 0;
    let mut next = vocabulary.longest_prefix(piece);
    loop {
        let last = tokens[first..].last().copied();
        let fits = |token: u32| {
            let end = at + vocabulary.len_of(token);
            dead_ends[end / 64] >> (end % 64) & 1 == 0
                && last.is_none_or(|last| vocabulary.stay_apart(last, token))
        };
        while next != NONE && !fits(next) {
            next = vocabulary.shorter_prefix(next);
        }
        if next != NONE {
            tokens.push(next);
            at += vocabulary.len_of(next);
            if at == piece.len() {
                return;
            }
            next = vocabulary.longest_prefix(&piece[at..]);
        } else {
            let last = last.expect("the bytes of a piece are tokens, so there is a way");
            dead_ends[at / 64] |= 1 << (at % 64);
            tokens.pop();
            at -= vocabulary.len_of(last);
            next = vocabulary.shorter_prefix(last);
        }
    }
}
