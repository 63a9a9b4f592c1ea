//! Learning merges. The text is seen once, as counts of its distinct pieces; memory grows with
//! those, not with the text.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::hash_map::Entry;
use std::thread;

use rustc_hash::FxHashMap;

use crate::{Error, Splitter, thread_count};

pub type PieceCounts = FxHashMap<Box<str>, i64>;

/// Counts the distinct pieces of a stream of texts.
pub struct PieceCounter {
    splitter: Splitter,
    by_thread: Vec<PieceCounts>,
}

impl PieceCounter {
    /// `threads` 0 means one for each processor.
    pub fn new(splitter: Splitter, threads: usize) -> Self {
        PieceCounter { splitter, by_thread: vec![PieceCounts::default(); thread_count(threads)] }
    }

    /// Counts the pieces of `texts`, dealt out to the threads in turn.
    pub fn add(&mut self, texts: &[&str]) -> Result<(), Error> {
        let (splitter, stride) = (&self.splitter, self.by_thread.len());
        thread::scope(|scope| {
            let workers: Vec<_> = (self.by_thread.iter_mut().enumerate())
                .map(|(first, counts)| {
                    let own_texts = texts.iter().skip(first).step_by(stride);
                    scope.spawn(move || count_pieces(&splitter.clone(), own_texts, counts))
                })
                .collect();
            workers.into_iter().try_for_each(|worker| worker.join().expect("counting never panics"))
        })
    }

    pub fn finish(self) -> PieceCounts {
        let mut threads = self.by_thread.into_iter();
        let mut total = threads.next().unwrap_or_default();
        for (piece, count) in threads.flatten() {
            *total.entry(piece).or_default() += count;
        }
        total
    }
}

fn count_pieces<'t>(
    splitter: &Splitter,
    texts: impl Iterator<Item = &'t &'t str>,
    counts: &mut PieceCounts,
) -> Result<(), Error> {
    for text in texts {
        splitter.split(text, |piece| match counts.get_mut(piece) {
            Some(count) => *count += 1,
            None => drop(counts.insert(piece.into(), 1)),
        })?;
    }
    Ok(())
}

/// Learns `vocab_size` tokens: the 256 bytes, then one token a merge. The result is the bytes of
/// each token by id.
///
/// Each step merges the most frequent pair; of equally frequent ones that with the smallest left
/// id, then right id. So the result depends on the counts alone: not on threads, hash seeds or the
/// order of the text.
pub fn train(pieces: &PieceCounts, vocab_size: usize) -> Result<Vec<Vec<u8>>, Error> {
    let mut tokens: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
    if vocab_size < tokens.len() {
        return Err(Error::Vocabulary(format!("vocab_size {vocab_size} is under the 256 bytes")));
    }
    let mut corpus = Corpus::new(pieces)?;
    while tokens.len() < vocab_size {
        let Some(pair) = corpus.pop_most_frequent() else {
            return Err(Error::TooLarge { asked: vocab_size, largest: tokens.len() });
        };
        corpus.merge(pair);
        tokens.push([&*tokens[pair.0 as usize], &*tokens[pair.1 as usize]].concat());
    }
    Ok(tokens)
}

type Pair = (u32, u32);

#[derive(Default)]
struct Occurrences {
    count: i64,
    /// Slots where the pair begins, ascending; some are outdated and recognised as such.
    slots: Vec<u32>,
}

/// In a slot: no token begins here.
const HOLE: u32 = u32::MAX;
/// In a slot: the border of a piece.
const BORDER: u32 = u32::MAX - 1;

/// All distinct pieces laid end to end, one slot a byte, one border slot around each.
///
/// A token stands in the first and the last of its slots, so both neighbours of a slot are found by
/// their length, and one merge costs the number of its occurrences, however long a piece is.
struct Corpus {
    slots: Vec<u32>,
    /// Slot -> index into `weights`.
    piece_of: Vec<u32>,
    /// How often each piece occurs in the text.
    weights: Vec<i64>,
    /// Token -> its length in slots.
    lens: Vec<u32>,
    pairs: FxHashMap<Pair, Occurrences>,
    /// Candidates; a count may be outdated (too high), which `pop_most_frequent` repairs.
    heap: BinaryHeap<(i64, Reverse<Pair>)>,
}

impl Corpus {
    fn new(pieces: &PieceCounts) -> Result<Self, Error> {
        let size = 1 + pieces.keys().map(|piece| piece.len() + 1).sum::<usize>();
        if size >= BORDER as usize {
            return Err(Error::Vocabulary(format!("{size} bytes of distinct pieces: over 4 GiB")));
        }
        let mut corpus = Corpus {
            slots: Vec::with_capacity(size),
            piece_of: Vec::with_capacity(size),
            weights: Vec::with_capacity(pieces.len()),
            lens: vec![1; 256],
            pairs: FxHashMap::default(),
            heap: BinaryHeap::new(),
        };
        for (piece, &weight) in pieces {
            corpus.push_piece(piece.as_bytes(), weight);
        }
        corpus.slots.push(BORDER);
        corpus.heap = corpus.pairs.iter().map(|(&pair, o)| (o.count, Reverse(pair))).collect();
        Ok(corpus)
    }

    fn push_piece(&mut self, piece: &[u8], weight: i64) {
        self.slots.push(BORDER);
        let first = self.slots.len() as u32;
        self.slots.extend(piece.iter().map(|&byte| u32::from(byte)));
        self.piece_of.resize(self.slots.len(), self.weights.len() as u32);
        self.weights.push(weight);
        for (slot, pair) in (first..).zip(piece.windows(2)) {
            self.add_pair((pair[0].into(), pair[1].into()), slot);
        }
    }

    fn weight(&self, slot: u32) -> i64 {
        self.weights[self.piece_of[slot as usize] as usize]
    }

    fn add_pair(&mut self, pair: Pair, slot: u32) {
        let weight = self.weight(slot);
        let occurrences = self.pairs.entry(pair).or_default();
        occurrences.count += weight;
        occurrences.slots.push(slot);
    }

    fn remove_pair(&mut self, pair: Pair, slot: u32) {
        let weight = self.weight(slot);
        if let Entry::Occupied(mut entry) = self.pairs.entry(pair) {
            entry.get_mut().count -= weight;
            if entry.get().count == 0 {
                entry.remove();
            }
        }
    }

    /// The pair to merge next, or None when every piece is a single token.
    fn pop_most_frequent(&mut self) -> Option<Pair> {
        loop {
            let (count, Reverse(pair)) = self.heap.pop()?;
            match self.pairs.get(&pair) {
                Some(occurrences) if occurrences.count == count => return Some(pair),
                Some(occurrences) => self.heap.push((occurrences.count, Reverse(pair))),
                None => {}
            }
        }
    }

    /// Replaces every occurrence of `pair`, from left to right, by the next token.
    fn merge(&mut self, pair: Pair) {
        let merged = self.lens.len() as u32;
        let left_len = self.lens[pair.0 as usize];
        self.lens.push(left_len + self.lens[pair.1 as usize]);
        let mut created = Vec::new();
        for slot in self.pairs.remove(&pair).unwrap_or_default().slots {
            let right = slot + left_len;
            if self.slots[slot as usize] == pair.0 && self.slots[right as usize] == pair.1 {
                self.merge_at(slot, right, pair, merged, &mut created);
            }
        }
        created.sort_unstable();
        created.dedup();
        for pair in created {
            if let Some(occurrences) = self.pairs.get(&pair) {
                self.heap.push((occurrences.count, Reverse(pair)));
            }
        }
    }

    fn merge_at(
        &mut self,
        slot: u32,
        right: u32,
        pair: Pair,
        merged: u32,
        created: &mut Vec<Pair>,
    ) {
        let end = slot + self.lens[merged as usize];
        let (before, after) = (self.slots[slot as usize - 1], self.slots[end as usize]);
        if before != BORDER {
            let start = slot - self.lens[before as usize];
            self.remove_pair((before, pair.0), start);
            self.add_pair((before, merged), start);
            created.push((before, merged));
        }
        if after != BORDER {
            self.remove_pair((pair.1, after), right);
            self.add_pair((merged, after), slot);
            created.push((merged, after));
        }
        self.slots[right as usize] = HOLE;
        self.slots[slot as usize] = merged;
        self.slots[end as usize - 1] = merged;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DEFAULT_PATTERN;

    fn counts(texts: &[&str], threads: usize) -> PieceCounts {
        let mut counter = PieceCounter::new(Splitter::new(DEFAULT_PATTERN).unwrap(), threads);
        counter.add(texts).unwrap();
        counter.finish()
    }

    fn random_letters(len: u64, letters: u64, seed: u64) -> String {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b'a' + ((state >> 33) % letters) as u8)
        };
        (0..len).map(|_| next()).collect()
    }

    /// The definition of BPE training, recounting everything before each merge.
    fn naive_train(pieces: &PieceCounts, vocab_size: usize) -> Vec<Vec<u8>> {
        let mut words: Vec<(Vec<u32>, i64)> = (pieces.iter())
            .map(|(piece, &n)| (piece.bytes().map(u32::from).collect(), n))
            .collect();
        let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
        while tokens.len() < vocab_size {
            let mut pairs: FxHashMap<Pair, i64> = FxHashMap::default();
            for (ids, n) in &words {
                for pair in ids.windows(2) {
                    *pairs.entry((pair[0], pair[1])).or_default() += n;
                }
            }
            let Some((&best, _)) = pairs.iter().max_by_key(|&(&pair, &n)| (n, Reverse(pair)))
            else {
                break;
            };
            for (ids, _) in &mut words {
                let mut i = 0;
                while i + 1 < ids.len() {
                    if (ids[i], ids[i + 1]) == best {
                        ids.splice(i..i + 2, [tokens.len() as u32]);
                    }
                    i += 1;
                }
            }
            tokens.push([&*tokens[best.0 as usize], &*tokens[best.1 as usize]].concat());
        }
        tokens
    }

    #[test]
    fn merges_equal_the_definition() {
        for round in 0..60 {
            let words: Vec<String> =
                (0..300).map(|i| random_letters(i % 13, 1 + round % 4, i + 1000 * round)).collect();
            let pieces = counts(&[&words.join(" ")], 1);
            let expected = naive_train(&pieces, 400);
            assert_eq!(train(&pieces, expected.len()).unwrap(), expected);
        }
    }

    #[test]
    fn ties_go_to_the_smallest_ids() {
        let tokens = train(&counts(&["ba dc"], 1), 257).unwrap();
        assert_eq!(tokens[256], b" d");
    }

    #[test]
    fn the_largest_vocabulary_is_named_and_possible() {
        let pieces = counts(&["hello hello"], 1);
        let error = train(&pieces, 1000).unwrap_err();
        assert_eq!(error, Error::TooLarge { asked: 1000, largest: 261 });
        assert_eq!(train(&pieces, 261).unwrap()[260], b" hello");
        assert!(matches!(train(&counts(&[], 1), 257), Err(Error::TooLarge { largest: 256, .. })));
        assert!(matches!(train(&pieces, 255), Err(Error::Vocabulary(_))));
    }

    #[test]
    fn threads_do_not_matter() {
        let texts: Vec<String> = (0..500).map(|i| format!("text {i} of {}", i * i)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        assert_eq!(counts(&texts, 1), counts(&texts, 8));
    }

    #[test]
    fn one_very_long_piece_is_not_quadratic() {
        let text = random_letters(300_000, 3, 0);
        assert_eq!(train(&counts(&[&text], 1), 4000).unwrap().len(), 4000);
    }

    #[test]
    fn counts_beyond_32_bits() {
        let mut pieces = PieceCounts::default();
        pieces.insert("ab".into(), 1 << 40);
        pieces.insert("cd".into(), (1 << 40) + 1);
        assert_eq!(train(&pieces, 258).unwrap()[256..], [b"cd".to_vec(), b"ab".to_vec()]);
    }
}
