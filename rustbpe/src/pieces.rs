//! Pieces as hash table keys. Nearly all are short, so a piece of up to 15 bytes is a key of two machine
//! words that is compared and hashed without touching memory again.

/// The bytes of a piece, little-endian, and its length in the top byte; never zero.
pub type Key = u128;

/// Longest piece that is a `Key`.
pub const LONGEST: usize = 15;

/// The key of `text[start..end]`, at most `LONGEST` bytes and at least one.
#[inline(always)]
pub fn key(text: &[u8], start: usize, end: usize) -> Key {
    let len = end - start;
    debug_assert!((1..=LONGEST).contains(&len));
    let mut bytes = [0_u8; 16];
    match text.get(start..start + 16) {
        Some(window) => bytes.copy_from_slice(window),
        None => bytes[..len].copy_from_slice(&text[start..end]),
    }
    let mask = (1_u128 << (8 * len)) - 1;
    (u128::from_le_bytes(bytes) & mask) | ((len as u128) << 120)
}

/// The bytes of a key, padded, and their number.
#[inline]
pub fn bytes_of(key: Key) -> ([u8; 16], usize) {
    (key.to_le_bytes(), (key >> 120) as usize)
}

/// A key as two words, the low one first.
#[inline(always)]
pub fn halves(key: Key) -> [u64; 2] {
    [key as u64, (key >> 64) as u64]
}

/// Multiplies the halves and folds the product (as wyhash does): good high and low bits.
#[inline(always)]
pub fn hash(key: Key) -> u64 {
    let low = (key as u64) ^ 0x9e37_79b9_7f4a_7c15;
    let high = ((key >> 64) as u64) ^ 0xd6e8_feb8_6659_fd93;
    let product = u128::from(low) * u128::from(high);
    (product as u64) ^ ((product >> 64) as u64)
}

/// A piece on its way to a table; see `Waiting`.
#[derive(Clone, Copy, Default)]
pub struct Piece {
    /// Zero for a piece of more than `LONGEST` bytes.
    pub key: Key,
    pub hash: u64,
    pub start: usize,
    pub end: usize,
}

/// A row of pieces on their way to a table. Looking into a large table takes as long as reading memory; so
/// that is begun when a piece is put in, and the piece is used when several others have been put in.
pub struct Waiting {
    pieces: [Piece; Waiting::MOST],
    len: usize,
}

impl Waiting {
    const MOST: usize = 16;

    pub fn new() -> Self {
        Waiting { pieces: [Piece::default(); Waiting::MOST], len: 0 }
    }

    /// Puts in `text[start..end]`, and has what is known of its hash fetched; true when the row is full.
    #[inline(always)]
    pub fn put(&mut self, text: &[u8], start: usize, end: usize, fetch: impl FnOnce(u64)) -> bool {
        let piece = &mut self.pieces[self.len];
        (piece.start, piece.end, piece.key) = (start, end, 0);
        if end - start <= LONGEST {
            piece.key = key(text, start, end);
            piece.hash = hash(piece.key);
            fetch(piece.hash);
        }
        self.len += 1;
        self.len == Waiting::MOST
    }

    /// Empties the row without using it.
    #[inline(always)]
    pub fn drop_all(&mut self) {
        self.len = 0;
    }

    /// Empties the row, in order.
    #[inline(always)]
    pub fn take_all(&mut self, mut take: impl FnMut(&Piece)) {
        self.pieces[..self.len].iter().for_each(&mut take);
        self.len = 0;
    }
}

/// Begins to bring `slots[at]` near.
#[inline(always)]
pub fn fetch<T>(slots: &[T], at: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: SSE belongs to x86_64, and a hint reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(&slots[at]).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (slots, at);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_hold_their_bytes() {
        let text = b"0123456789abcdefghij";
        for start in 0..text.len() {
            for end in start + 1..=text.len().min(start + LONGEST) {
                let (bytes, len) = bytes_of(key(text, start, end));
                assert_eq!(&bytes[..len], &text[start..end]);
            }
        }
    }

    #[test]
    fn zeros_and_lengths_are_told_apart() {
        let text = [0_u8; 40];
        let keys: std::collections::HashSet<Key> =
            (1..=LONGEST).map(|end| key(&text, 0, end)).collect();
        assert_eq!(keys.len(), LONGEST);
        assert!(!keys.contains(&0));
        let hashes: std::collections::HashSet<u64> = keys.iter().map(|&key| hash(key)).collect();
        assert_eq!(hashes.len(), LONGEST);
    }
}
