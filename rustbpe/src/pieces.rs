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

/// Pieces on their way to a table. Looking into a large table takes as long as reading memory; so that is
/// begun when a piece is put in, and the piece is used when `MOST` others have been put in after it.
pub struct Waiting {
    pieces: [Piece; Waiting::MOST],
    /// Pieces put in so far.
    count: usize,
}

impl Waiting {
    const MOST: usize = 16;

    pub fn new() -> Self {
        Waiting { pieces: [Piece::default(); Waiting::MOST], count: 0 }
    }

    /// Puts in `text[start..end]` and has what is known of its hash fetched; the piece whose turn has come,
    /// once there are `MOST`.
    #[inline(always)]
    pub fn put(
        &mut self,
        text: &[u8],
        start: usize,
        end: usize,
        fetch: impl FnOnce(u64),
    ) -> Option<Piece> {
        let slot = &mut self.pieces[self.count % Waiting::MOST];
        let next = (self.count >= Waiting::MOST).then_some(*slot);
        (slot.start, slot.end, slot.key) = (start, end, 0);
        if end - start <= LONGEST {
            slot.key = key(text, start, end);
            slot.hash = hash(slot.key);
            fetch(slot.hash);
        }
        self.count += 1;
        next
    }

    /// The pieces that are left, in order.
    pub fn rest(&self) -> impl Iterator<Item = &Piece> {
        let first = self.count.saturating_sub(Waiting::MOST);
        (first..self.count).map(|number| &self.pieces[number % Waiting::MOST])
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
    fn pieces_wait_for_their_turn() {
        let (text, mut waiting, mut out) = ([b'a'; 60], Waiting::new(), Vec::new());
        for end in 1..=50 {
            let mut fetched = None;
            out.extend(waiting.put(&text, 0, end, |hash| fetched = Some(hash)));
            assert_eq!(fetched.is_some(), end <= LONGEST);
            assert_eq!(out.len(), end.saturating_sub(Waiting::MOST));
        }
        out.extend(waiting.rest());
        assert!(out.iter().map(|piece| piece.end).eq(1..=50));
        assert!(out.iter().all(|piece| (piece.key == 0) == (piece.end > LONGEST)));
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
