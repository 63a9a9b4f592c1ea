//! Applying merges: text to token ids.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::thread;

use rustc_hash::FxHashMap;

use crate::{Error, Splitter, thread_count};

/// Encodes text exactly as tiktoken's `encode_ordinary` with the same ranks and pattern: in each
/// piece, always the leftmost of the adjacent tokens whose joined bytes have the lowest rank.
pub struct Encoder {
    splitter: Splitter,
    /// Token bytes -> id, for pieces that are a token as a whole.
    ids: FxHashMap<Box<[u8]>, u32>,
    byte_ids: [u32; 256],
    /// Two adjacent tokens -> the token of their joined bytes.
    merges: FxHashMap<(u32, u32), u32>,
}

impl Encoder {
    /// `ranks` holds the bytes of each token by id. Each must be a single byte (all 256 must be
    /// there) or two earlier tokens joined, and stand there once.
    pub fn new(ranks: &[impl AsRef<[u8]>], pattern: &str) -> Result<Self, Error> {
        let splitter = Splitter::new(pattern)?;
        let mut ids = FxHashMap::default();
        for (id, token) in ranks.iter().enumerate() {
            if let Some(first) = ids.insert(token.as_ref().into(), id as u32) {
                let message = format!("ranks {first} and {id} are the same token");
                return Err(Error::Vocabulary(message));
            }
        }
        let byte_ids = byte_ids(&ids)?;
        let mut merges = FxHashMap::default();
        for (id, token) in (0..).zip(ranks) {
            add_merges(&mut merges, &ids, token.as_ref(), id)?;
        }
        Ok(Encoder { splitter, ids, byte_ids, merges })
    }

    /// The ids of `text`. Linear in its length, but for the logarithm of its longest piece.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.encode_with(text, &mut Scratch::default())
    }

    /// The ids of each text; `threads` 0 means one for each processor.
    pub fn encode_batch(&self, texts: &[&str], threads: usize) -> Result<Vec<Vec<u32>>, Error> {
        let chunk_len = texts.len().div_ceil(thread_count(threads)).max(1);
        let mut encoded = vec![Vec::new(); texts.len()];
        thread::scope(|scope| {
            let workers: Vec<_> = (texts.chunks(chunk_len).zip(encoded.chunks_mut(chunk_len)))
                .map(|(texts, encoded)| scope.spawn(|| self.encode_chunk(texts, encoded)))
                .collect();
            workers.into_iter().try_for_each(|worker| worker.join().expect("encoding never panics"))
        })?;
        Ok(encoded)
    }

    fn encode_chunk(&self, texts: &[&str], encoded: &mut [Vec<u32>]) -> Result<(), Error> {
        let mut scratch = Scratch::default();
        for (text, ids) in texts.iter().zip(encoded) {
            *ids = self.encode_with(text, &mut scratch)?;
        }
        Ok(())
    }

    fn encode_with(&self, text: &str, scratch: &mut Scratch) -> Result<Vec<u32>, Error> {
        let mut output = Vec::with_capacity(text.len() / 3);
        self.splitter.split(text, |piece| match self.ids.get(piece.as_bytes()) {
            Some(&id) => output.push(id),
            None => scratch.merge_piece(self, piece.as_bytes(), &mut output),
        })?;
        Ok(output)
    }

    fn merged(&self, left: u32, right: u32) -> Option<u32> {
        self.merges.get(&(left, right)).copied()
    }
}

fn byte_ids(ids: &FxHashMap<Box<[u8]>, u32>) -> Result<[u32; 256], Error> {
    let mut byte_ids = [0; 256];
    for byte in 0..=u8::MAX {
        let id = ids.get([byte].as_slice());
        let missing = || Error::Vocabulary(format!("ranks have no token for the byte {byte:#04x}"));
        byte_ids[usize::from(byte)] = *id.ok_or_else(missing)?;
    }
    Ok(byte_ids)
}

/// Adds every way to join two earlier tokens into `token`, not only the one that training chose.
fn add_merges(
    merges: &mut FxHashMap<(u32, u32), u32>,
    ids: &FxHashMap<Box<[u8]>, u32>,
    token: &[u8],
    id: u32,
) -> Result<(), Error> {
    let mut reachable = token.len() == 1;
    for cut in 1..token.len() {
        let (left, right) = token.split_at(cut);
        if let (Some(&left), Some(&right)) = (ids.get(left), ids.get(right)) {
            merges.insert((left, right), id);
            reachable |= left < id && right < id;
        }
    }
    match reachable {
        true => Ok(()),
        false => Err(Error::Vocabulary(format!("rank {id} is not two earlier tokens joined"))),
    }
}

/// The tokens of one piece as a linked list over its bytes, kept to reuse the memory.
#[derive(Default)]
struct Scratch {
    nodes: Vec<Node>,
    /// Possible merges: (rank, node of the left token); outdated ones are recognised when popped.
    candidates: BinaryHeap<Reverse<(u32, u32)>>,
}

#[derive(Clone, Copy)]
struct Node {
    id: u32,
    previous: u32,
    next: u32,
}

const NONE: u32 = u32::MAX;

impl Scratch {
    fn merge_piece(&mut self, encoder: &Encoder, piece: &[u8], output: &mut Vec<u32>) {
        self.fill(encoder, piece);
        while let Some(Reverse((rank, node))) = self.candidates.pop() {
            if self.rank_at(encoder, node) == Some(rank) {
                self.merge_at(encoder, node, rank);
            }
        }
        let mut node = 0;
        while node != NONE {
            output.push(self.nodes[node as usize].id);
            node = self.nodes[node as usize].next;
        }
    }

    fn fill(&mut self, encoder: &Encoder, piece: &[u8]) {
        let len = piece.len() as u32;
        self.nodes.clear();
        self.nodes.extend((0..len).zip(piece).map(|(i, &byte)| Node {
            id: encoder.byte_ids[usize::from(byte)],
            previous: i.wrapping_sub(1),
            next: if i + 1 < len { i + 1 } else { NONE },
        }));
        (0..len).for_each(|node| self.push_candidate(encoder, node));
    }

    /// Rank of the merge of `node` with its successor; None too for a node that was merged away.
    fn rank_at(&self, encoder: &Encoder, node: u32) -> Option<u32> {
        let Node { id, next, .. } = self.nodes[node as usize];
        encoder.merged(id, self.nodes.get(next as usize)?.id)
    }

    fn push_candidate(&mut self, encoder: &Encoder, node: u32) {
        if let Some(rank) = self.rank_at(encoder, node) {
            self.candidates.push(Reverse((rank, node)));
        }
    }

    fn merge_at(&mut self, encoder: &Encoder, node: u32, id: u32) {
        let absorbed = self.nodes[node as usize].next;
        let next = self.nodes[absorbed as usize].next;
        self.nodes[absorbed as usize] = Node { id: NONE, previous: NONE, next: NONE };
        self.nodes[node as usize].id = id;
        self.nodes[node as usize].next = next;
        if next != NONE {
            self.nodes[next as usize].previous = node;
            self.push_candidate(encoder, node);
        }
        let previous = self.nodes[node as usize].previous;
        if previous != NONE {
            self.push_candidate(encoder, previous);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DEFAULT_PATTERN, PieceCounter, train};

    const TEXT: &str = "the cat sat on the mat; the théâtre, the 12345 bananas aaaaaaa!\n\n  end";

    fn ranks() -> Vec<Vec<u8>> {
        let mut counter = PieceCounter::new(Splitter::Default, 1);
        counter.add(&[TEXT]).unwrap();
        train(&counter.finish(), 290).unwrap()
    }

    fn encoder() -> Encoder {
        Encoder::new(&ranks(), DEFAULT_PATTERN).unwrap()
    }

    /// The definition: join the lowest-ranked adjacent pair until there is none.
    fn naive_encode(ranks: &[Vec<u8>], piece: &[u8]) -> Vec<u32> {
        let rank = |bytes: &[u8]| ranks.iter().position(|token| token == bytes);
        let mut parts: Vec<Vec<u8>> = piece.iter().map(|&byte| vec![byte]).collect();
        while let Some((_, i)) = (1..parts.len())
            .filter_map(|i| Some((rank(&[&*parts[i - 1], &*parts[i]].concat())?, i)))
            .min()
        {
            let right = parts.remove(i);
            parts[i - 1].extend(right);
        }
        parts.iter().map(|part| rank(part).unwrap() as u32).collect()
    }

    #[test]
    fn ids_equal_the_definition() {
        let (ranks, encoder) = (ranks(), encoder());
        let mut expected = Vec::new();
        let visit = |piece: &str| expected.extend(naive_encode(&ranks, piece.as_bytes()));
        Splitter::Default.split(TEXT, visit).unwrap();
        assert_eq!(encoder.encode(TEXT).unwrap(), expected);
    }

    #[test]
    fn ids_join_to_the_text() {
        let ranks = ranks();
        for text in [TEXT, "", "\0", "naïve 🤖 café", "unseen wörds"] {
            let ids = encoder().encode(text).unwrap();
            let bytes: Vec<u8> = ids.iter().flat_map(|&id| ranks[id as usize].clone()).collect();
            assert_eq!(bytes, text.as_bytes());
        }
    }

    #[test]
    fn a_batch_is_each_text_alone() {
        let texts: Vec<&str> = TEXT.split(' ').collect();
        let alone: Vec<_> = texts.iter().map(|text| encoder().encode(text).unwrap()).collect();
        for threads in [0, 1, 3, 100] {
            assert_eq!(encoder().encode_batch(&texts, threads).unwrap(), alone);
        }
        assert!(encoder().encode_batch(&[], 2).unwrap().is_empty());
    }

    #[test]
    fn long_pieces_are_not_quadratic() {
        for text in ["a".repeat(1_000_000), " ".repeat(1_000_000), "the".repeat(300_000)] {
            assert!(!encoder().encode(&text).unwrap().is_empty());
        }
    }

    #[test]
    fn bad_ranks_are_refused() {
        let refused = |change: fn(&mut Vec<Vec<u8>>)| {
            let mut ranks = ranks();
            change(&mut ranks);
            Encoder::new(&ranks, DEFAULT_PATTERN).err().unwrap().to_string()
        };
        assert_eq!(refused(|r| r.push(r[260].clone())), "ranks 260 and 290 are the same token");
        assert_eq!(refused(|r| drop(r.remove(7))), "ranks have no token for the byte 0x07");
        assert_eq!(refused(|r| r.push(vec![])), "rank 290 is not two earlier tokens joined");
        let unreachable = "rank 290 is not two earlier tokens joined";
        assert_eq!(refused(|r| r.push(b"zzzz".to_vec())), unreachable);
    }
}
