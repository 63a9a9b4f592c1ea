//! Learning merges from the counts of the distinct pieces.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::hash_map::Entry;

use rustc_hash::FxHashMap;

use crate::{Error, Phase, PieceCounts, Watch};

/// What training gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trained {
    /// The bytes of each token by id: the 256 bytes, then one token a merge.
    pub tokens: Vec<Vec<u8>>,
    /// The text had no pair left before there were as many tokens as asked for.
    pub stopped_early: bool,
}

/// Learns up to `vocab_size` tokens.
///
/// Each step merges the most frequent pair; of equally frequent ones that with the smallest left
/// id, then right id. So the result depends on the counts alone: not on threads, hash seeds or the
/// order of the text. `watch` is asked again and again whether to go on.
pub fn train(pieces: PieceCounts, vocab_size: usize, watch: Watch) -> Result<Trained, Error> {
    let mut tokens: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
    let Some(merges) = vocab_size.checked_sub(tokens.len()) else {
        return Err(Error::Vocabulary(format!("vocab_size {vocab_size} is under the 256 bytes")));
    };
    if pieces.is_empty() {
        return Err(Error::Corpus("there is no text to train on".into()));
    }
    let mut corpus = Corpus::new(pieces)?;
    watch(Phase::Merge, 0, Some(merges as u64))?;
    for done in 0..merges {
        let Some(pair) = corpus.pop_most_frequent() else { break };
        corpus.merge(pair);
        tokens.push([&*tokens[pair.0 as usize], &*tokens[pair.1 as usize]].concat());
        watch(Phase::Merge, done as u64 + 1, Some(merges as u64))?;
    }
    Ok(Trained { stopped_early: tokens.len() < vocab_size, tokens })
}

type Pair = (u32, u32);

/// How often a pair occurs, and which part of `lists[max(left, right)]` holds the slots where it
/// began when it came up; some are outdated and recognised as such. Its count only falls after that.
struct Occurrences {
    count: u64,
    begin: u32,
    end: u32,
}

/// In a slot: no token begins here.
const HOLE: u32 = u32::MAX;
/// In a slot: the border of a piece.
const BORDER: u32 = u32::MAX - 1;
/// As a weight: it is 2^32 - 1 or more, see `Corpus::heavy`.
const HEAVY: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Slot {
    token: u32,
    /// How often the piece around it occurs in the text.
    weight: u32,
}

/// All distinct pieces laid end to end, one slot a byte, one border slot around each.
///
/// A token stands in the first and the last of its slots, so both neighbours of a slot are found by
/// their length, and one merge costs the number of its occurrences, however long a piece is.
struct Corpus {
    slots: Vec<Slot>,
    /// Weights that do not fit: (first slot of the piece, weight), ascending.
    heavy: Vec<(u32, u64)>,
    /// Token -> its length in slots.
    lens: Vec<u32>,
    pairs: FxHashMap<Pair, Occurrences>,
    /// For the bytes together (at 255) and for each later token: slots of the pairs it brought up.
    lists: Vec<Box<[u32]>>,
    /// Candidates; a count may be outdated (too high), which `pop_most_frequent` repairs.
    heap: BinaryHeap<(u64, Reverse<Pair>)>,
    left: Neighbours,
    right: Neighbours,
}

impl Corpus {
    fn new(pieces: PieceCounts) -> Result<Self, Error> {
        let (mut size, mut heavy) = (1, Vec::new());
        pieces.for_each(|piece, _| size += piece.len() + 1);
        if size >= BORDER as usize {
            return Err(Error::Corpus(format!(
                "{size} bytes of distinct pieces, over 4 GiB: train on less text"
            )));
        }
        let mut slots = Vec::with_capacity(size);
        pieces.for_each(|piece, count| {
            slots.push(Slot { token: BORDER, weight: 0 });
            let weight = count.min(HEAVY.into()) as u32;
            if weight == HEAVY {
                heavy.push((slots.len() as u32, count));
            }
            slots.extend(piece.iter().map(|&byte| Slot { token: byte.into(), weight }));
        });
        slots.push(Slot { token: BORDER, weight: 0 });
        let mut corpus = Corpus {
            slots,
            heavy,
            lens: vec![1; 256],
            pairs: FxHashMap::default(),
            lists: vec![Box::default(); 256],
            heap: BinaryHeap::new(),
            left: Neighbours::default(),
            right: Neighbours::default(),
        };
        drop(pieces);
        corpus.count_byte_pairs();
        Ok(corpus)
    }

    /// By counting sort: slots of each pair of bytes in one list.
    fn count_byte_pairs(&mut self) {
        const PAIRS: usize = 1 << 16;
        let index = |left: Slot, right: Slot| {
            let within = left.token != BORDER && right.token != BORDER;
            within.then_some((left.token as usize) << 8 | right.token as usize)
        };
        let (mut counts, mut ends) = (vec![0_u64; PAIRS], vec![0_u32; PAIRS]);
        for (slot, window) in self.slots.windows(2).enumerate() {
            if let Some(pair) = index(window[0], window[1]) {
                counts[pair] += self.weight(slot as u32);
                ends[pair] += 1;
            }
        }
        let mut total = 0;
        for end in &mut ends {
            total += std::mem::replace(end, total);
        }
        let mut list = vec![0; total as usize].into_boxed_slice();
        for (slot, window) in self.slots.windows(2).enumerate() {
            if let Some(pair) = index(window[0], window[1]) {
                list[ends[pair] as usize] = slot as u32;
                ends[pair] += 1;
            }
        }
        let mut begin = 0;
        for (pair, (&count, &end)) in counts.iter().zip(&ends).enumerate() {
            if end > begin {
                let pair = ((pair >> 8) as u32, (pair & 255) as u32);
                self.pairs.insert(pair, Occurrences { count, begin, end });
                self.heap.push((count, Reverse(pair)));
            }
            begin = end;
        }
        self.lists[255] = list;
    }

    fn weight(&self, slot: u32) -> u64 {
        match self.slots[slot as usize].weight {
            HEAVY => {
                let after = self.heavy.partition_point(|&(first, _)| first <= slot);
                self.heavy[after - 1].1
            }
            weight => weight.into(),
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
        self.left.reserve(merged);
        self.right.reserve(merged);
        let Some(Occurrences { begin, end, .. }) = self.pairs.remove(&pair) else { return };
        let home = pair.0.max(pair.1).max(255) as usize;
        let list = std::mem::take(&mut self.lists[home]);
        for &slot in &list[begin as usize..end as usize] {
            let right = slot + left_len;
            if self.slots[slot as usize].token == pair.0
                && self.slots.get(right as usize).is_some_and(|slot| slot.token == pair.1)
            {
                self.merge_at(slot, right, pair, merged);
            }
        }
        self.lists[home] = list;
        self.settle(pair, merged);
    }

    fn merge_at(&mut self, slot: u32, right: u32, pair: Pair, merged: u32) {
        let weight = self.weight(slot);
        let end = slot + self.lens[merged as usize];
        let before = self.slots[slot as usize - 1].token;
        let after = self.slots[end as usize].token;
        if before != BORDER {
            if before == merged {
                self.right.gained[pair.0 as usize] -= weight; // what the occurrence before this one gained
            } else {
                self.left.lost[before as usize] += weight;
            }
            self.left.gain(before, weight, slot - self.lens[before as usize]);
        }
        if after != BORDER {
            self.right.lost[after as usize] += weight;
            self.right.gain(after, weight, slot);
        }
        self.slots[right as usize].token = HOLE;
        self.slots[slot as usize].token = merged;
        self.slots[end as usize - 1].token = merged;
    }

    /// Brings `pairs` and `heap` up to date after the occurrences of `pair` became `merged`.
    fn settle(&mut self, pair: Pair, merged: u32) {
        let mut list = vec![0; self.left.slots.len() + self.right.slots.len()];
        let mut end = 0;
        for (neighbours, is_left) in [(&mut self.left, true), (&mut self.right, false)] {
            let begins = end;
            for &token in &neighbours.tokens {
                let (old, new) = match is_left {
                    true => ((token, pair.0), (token, merged)),
                    false => ((pair.1, token), (merged, token)),
                };
                let lost = std::mem::take(&mut neighbours.lost[token as usize]);
                if let Entry::Occupied(mut entry) = self.pairs.entry(old) {
                    entry.get_mut().count -= lost;
                    if entry.get().count == 0 {
                        entry.remove();
                    }
                }
                let begin = end;
                end += std::mem::replace(&mut neighbours.number[token as usize], begin);
                let count = std::mem::take(&mut neighbours.gained[token as usize]);
                if count > 0 {
                    self.pairs.insert(new, Occurrences { count, begin, end });
                    self.heap.push((count, Reverse(new)));
                }
            }
            debug_assert_eq!((end - begins) as usize, neighbours.slots.len());
            for &(token, slot) in &neighbours.slots {
                let next = &mut neighbours.number[token as usize];
                list[*next as usize] = slot;
                *next += 1;
            }
            for &token in &neighbours.tokens {
                neighbours.number[token as usize] = 0;
            }
            neighbours.tokens.clear();
            neighbours.slots.clear();
        }
        self.lists.push(list.into_boxed_slice());
    }
}

/// What one merge does to the pairs on one side of its occurrences, by the token that is there.
#[derive(Default)]
struct Neighbours {
    /// The tokens seen, each once.
    tokens: Vec<u32>,
    /// (token seen, where its pair with the merged token begins), in the order of the text.
    slots: Vec<(u32, u32)>,
    /// By token: occurrences seen, weight its old pair lost, weight its new pair gained.
    number: Vec<u32>,
    lost: Vec<u64>,
    gained: Vec<u64>,
}

impl Neighbours {
    fn reserve(&mut self, largest: u32) {
        let size = largest as usize + 1;
        self.number.resize(size, 0);
        self.lost.resize(size, 0);
        self.gained.resize(size, 0);
    }

    #[inline]
    fn gain(&mut self, token: u32, weight: u64, slot: u32) {
        let number = &mut self.number[token as usize];
        if *number == 0 {
            self.tokens.push(token);
        }
        *number += 1;
        self.gained[token as usize] += weight;
        self.slots.push((token, slot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PieceCounter, Splitter};

    fn counts(texts: &[&str]) -> PieceCounts {
        let mut counter = PieceCounter::new(Splitter::Default, 2);
        counter.add(texts, &mut |_, _, _| Ok(())).unwrap();
        counter.finish()
    }

    fn train(pieces: PieceCounts, vocab_size: usize) -> Result<Trained, Error> {
        super::train(pieces, vocab_size, &mut |_, _, _| Ok(()))
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
        let mut words: Vec<(Vec<u32>, u64)> = Vec::new();
        pieces.for_each(|piece, n| words.push((piece.iter().map(|&b| b.into()).collect(), n)));
        let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
        while tokens.len() < vocab_size {
            let mut pairs: FxHashMap<Pair, u64> = FxHashMap::default();
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
                (0..300).map(|i| random_letters(i % 40, 1 + round % 4, i + 1000 * round)).collect();
            let text = words.join(" ");
            let expected = naive_train(&counts(&[&text]), 400);
            let trained = train(counts(&[&text]), expected.len()).unwrap();
            assert_eq!(trained, Trained { tokens: expected, stopped_early: false });
        }
    }

    #[test]
    fn ties_go_to_the_smallest_ids() {
        let trained = train(counts(&["ba dc"]), 257).unwrap();
        assert_eq!(trained.tokens[256], b" d");
    }

    #[test]
    fn a_text_without_pairs_left_stops_early() {
        let trained = train(counts(&["hello hello"]), 1000).unwrap();
        assert!(trained.stopped_early);
        assert_eq!(trained.tokens.len(), 261);
        assert_eq!(trained.tokens[260], b" hello");
        assert!(!train(counts(&["hello hello"]), 261).unwrap().stopped_early);
    }

    #[test]
    fn what_cannot_be_trained_is_an_error() {
        assert!(matches!(train(counts(&[]), 257), Err(Error::Corpus(_))));
        assert!(matches!(train(counts(&["a"]), 255), Err(Error::Vocabulary(_))));
    }

    #[test]
    fn whoever_watches_can_stop_it() {
        let mut calls = 0;
        let mut watch = |_, done, _| {
            calls += 1;
            if done == 3 { Err(Error::Stopped) } else { Ok(()) }
        };
        let stopped = super::train(counts(&["hello hello"]), 300, &mut watch);
        assert_eq!((stopped, calls), (Err(Error::Stopped), 4));
    }

    #[test]
    fn one_very_long_piece_is_not_quadratic() {
        let text = random_letters(300_000, 3, 0);
        assert_eq!(train(counts(&[&text]), 4000).unwrap().tokens.len(), 4000);
    }

    #[test]
    fn counts_beyond_32_bits() {
        let mut pieces = PieceCounts::default();
        pieces.add(b"zz", 7);
        pieces.add(b"xyxyxy", u64::from(u32::MAX) - 1);
        pieces.add(b"ab", 1 << 40);
        pieces.add(b"cd", (1 << 40) + 1);
        pieces.add(b"ababab", 1 << 41);
        let expected =
            [b"ab".to_vec(), b"abab".to_vec(), b"ababab".to_vec(), b"xy".to_vec(), b"cd".to_vec()];
        let mut tokens = train(pieces, 261).unwrap().tokens.split_off(256);
        tokens.sort();
        let mut expected = expected.to_vec();
        expected.sort();
        assert_eq!(tokens, expected);
    }
}
