//! A byte-pair vocabulary: which tokens there are, and which two of them each is made of.

use rustc_hash::FxHashMap;

use crate::Error;
use crate::pieces::{self, Key, LONGEST};

/// So that two ids and the one they are merged into are 63 bits.
const MOST_TOKENS: usize = 1 << 21;
const ID_BITS: u32 = MOST_TOKENS.trailing_zeros();

/// In tables of ids: there is none.
pub const NONE: u32 = u32::MAX;

/// The bytes of each token by id and the one merge that makes each.
///
/// Joining the adjacent pair of the lowest rank again and again (tiktoken's definition) makes every token
/// from the same two tokens, wherever it stands, provided that the bytes of each token encode to itself.
/// That is checked here and makes one merge a token enough.
pub struct Vocabulary {
    bytes: Vec<u8>,
    /// Where each token ends in `bytes`.
    ends: Vec<u32>,
    short: ShortIds,
    long: FxHashMap<Box<[u8]>, u32>,
    pub byte_ids: [u32; 256],
    merges: Merges,
    /// Two bytes, as an index -> the token they are merged into, or NONE.
    byte_merges: Vec<u32>,
    /// Two bytes, as an index -> whether they are next to each other in some token.
    may_join: Vec<bool>,
    /// Token -> the two it is made of; for a single byte NONE.
    splits: Vec<(u32, u32)>,
    trie: Trie,
    /// Token -> the longest other token that it begins with, or NONE.
    prefixes: Vec<u32>,
}

impl Vocabulary {
    /// `ranks` holds the bytes of each token by id.
    pub fn new(ranks: &[impl AsRef<[u8]>]) -> Result<Self, Error> {
        if ranks.len() > MOST_TOKENS {
            let message =
                format!("{} ranks are over the {MOST_TOKENS} that are possible", ranks.len());
            return Err(Error::Vocabulary(message));
        }
        let mut vocabulary = Vocabulary {
            bytes: Vec::new(),
            ends: Vec::with_capacity(ranks.len()),
            short: ShortIds::new(ranks.len()),
            long: FxHashMap::default(),
            byte_ids: [NONE; 256],
            merges: Merges::new(ranks.len()),
            byte_merges: vec![NONE; 1 << 16],
            may_join: vec![false; 1 << 16],
            splits: vec![(NONE, NONE); ranks.len()],
            trie: Trie::default(),
            prefixes: vec![NONE; ranks.len()],
        };
        for token in ranks {
            vocabulary.push(token.as_ref())?;
        }
        for byte in 0..=u8::MAX {
            let id = vocabulary.id_of(&[byte]).ok_or_else(|| {
                Error::Vocabulary(format!("ranks have no token for the byte {byte:#04x}"))
            })?;
            vocabulary.byte_ids[usize::from(byte)] = id;
        }
        for (id, token) in (0..).zip(ranks) {
            vocabulary.trie.insert(token.as_ref(), id);
        }
        for (id, token) in ranks.iter().enumerate() {
            vocabulary.prefixes[id] = vocabulary.trie.longest_within(token.as_ref());
        }
        for (id, token) in (0..).zip(ranks) {
            vocabulary.learn(id, token.as_ref())?;
        }
        Ok(vocabulary)
    }

    fn push(&mut self, token: &[u8]) -> Result<(), Error> {
        let id = self.ends.len() as u32;
        if token.is_empty() {
            return Err(Error::Vocabulary(format!("rank {id} is empty")));
        }
        if let Some(first) = self.id_of(token) {
            return Err(Error::Vocabulary(format!("ranks {first} and {id} are the same token")));
        }
        self.bytes.extend_from_slice(token);
        let Ok(end) = u32::try_from(self.bytes.len()) else {
            return Err(Error::Vocabulary("ranks hold over 4 GiB of bytes".into()));
        };
        self.ends.push(end);
        match token.len() {
            ..=LONGEST => self.short.insert(pieces::key(token, 0, token.len()), id),
            _ => drop(self.long.insert(token.into(), id)),
        }
        Ok(())
    }

    /// Finds the two earlier tokens that `token` is merged from; those before `id` have theirs.
    fn learn(&mut self, id: u32, token: &[u8]) -> Result<(), Error> {
        if token.len() == 1 {
            return Ok(());
        }
        let mut why = "is not two earlier tokens joined";
        let mut left = self.prefixes[id as usize];
        while left != NONE {
            let right = self.id_of(&token[self.len_of(left)..]);
            if let Some(right) = right.filter(|&right| left < id && right < id) {
                if self.stay_apart(left, right) {
                    self.splits[id as usize] = (left, right);
                    self.merges.insert(left, right, id);
                    if token.len() == 2 {
                        self.byte_merges[pair_index(token)] = id;
                    }
                    token.windows(2).for_each(|pair| self.may_join[pair_index(pair)] = true);
                    return Ok(());
                }
                why = "never comes up: its bytes encode to other tokens";
            }
            left = self.prefixes[left as usize];
        }
        Err(Error::Vocabulary(format!("rank {id} {why}")))
    }

    /// The number of tokens.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn token(&self, id: u32) -> Option<&[u8]> {
        let end = *self.ends.get(id as usize)? as usize;
        let begin = if id == 0 { 0 } else { self.ends[id as usize - 1] as usize };
        Some(&self.bytes[begin..end])
    }

    pub fn len_of(&self, id: u32) -> usize {
        self.token(id).map_or(0, <[u8]>::len)
    }

    pub fn id_of(&self, token: &[u8]) -> Option<u32> {
        match token.len() {
            0 => None,
            1..=LONGEST => self.id_of_key(pieces::key(token, 0, token.len())),
            _ => self.long.get(token).copied(),
        }
    }

    #[inline]
    pub fn id_of_key(&self, key: Key) -> Option<u32> {
        self.short.get(key)
    }

    /// The token that two adjacent ones are merged into.
    #[inline]
    pub fn merged(&self, left: u32, right: u32) -> Option<u32> {
        self.merges.get(left, right)
    }

    /// The token that two bytes are merged into.
    #[inline]
    pub fn merged_bytes(&self, left: u8, right: u8) -> Option<u32> {
        let id = self.byte_merges[pair_index(&[left, right])];
        (id != NONE).then_some(id)
    }

    /// Whether there is a token in which `left` and `right` are next to each other.
    #[inline]
    pub fn may_join(&self, left: u8, right: u8) -> bool {
        self.may_join[pair_index(&[left, right])]
    }

    /// The longest token that `bytes`, which are some, begin with.
    pub fn longest_prefix(&self, bytes: &[u8]) -> u32 {
        self.trie.longest(bytes)
    }

    /// The longest other token that `id` begins with, or NONE.
    pub fn shorter_prefix(&self, id: u32) -> u32 {
        self.prefixes[id as usize]
    }

    /// Whether the joined bytes of two tokens encode to these two.
    ///
    /// Takes their merges back, the last one first (of equal rank the right one, as merging goes from left
    /// to right). Each time, the tokens that then meet at the border must not be a pair that would have
    /// been merged before that.
    pub fn stay_apart(&self, mut left: u32, mut right: u32) -> bool {
        let mut limit = NONE;
        loop {
            if self.merged(left, right).is_some_and(|merged| merged < limit) {
                return false;
            }
            let (left_split, right_split) =
                (self.splits[left as usize], self.splits[right as usize]);
            if left_split.1 != NONE && (right_split.0 == NONE || left > right) {
                limit = left;
                left = left_split.1;
            } else if right_split.0 != NONE {
                limit = right + 1;
                right = right_split.0;
            } else {
                return true;
            }
        }
    }
}

/// Tokens of up to `LONGEST` bytes -> id: open addressing, filled once, at most half full.
struct ShortIds {
    /// A key of zero marks an empty slot.
    slots: Vec<(Key, u32)>,
}

impl ShortIds {
    fn new(len: usize) -> Self {
        ShortIds { slots: vec![(0, NONE); (len * 2).next_power_of_two().max(2)] }
    }

    /// The slot of `key`, or the empty one where it belongs.
    #[inline(always)]
    fn find(&self, key: Key) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = pieces::hash(key) as usize & mask;
        while self.slots[at].0 != key && self.slots[at].0 != 0 {
            at = (at + 1) & mask;
        }
        at
    }

    #[inline(always)]
    fn get(&self, key: Key) -> Option<u32> {
        let (found, id) = self.slots[self.find(key)];
        (found == key).then_some(id)
    }

    fn insert(&mut self, key: Key, id: u32) {
        let at = self.find(key);
        self.slots[at] = (key, id);
    }
}

/// Two tokens -> the one they are merged into. One word a slot (left, right, merged), for the sake of the
/// processor's cache; open addressing, filled once, at most half full.
struct Merges {
    slots: Vec<u64>,
    /// A bit for each pair by its hash. Most pairs that are asked for are none, and this is small enough to
    /// be near.
    maybe: Vec<u64>,
}

const EMPTY: u64 = u64::MAX;

impl Merges {
    fn new(len: usize) -> Self {
        let size = (len * 2).next_power_of_two().max(64);
        Merges { slots: vec![EMPTY; size], maybe: vec![0; size / 8] }
    }

    #[inline(always)]
    fn pair_and_hash(left: u32, right: u32) -> (u64, usize) {
        let pair = (u64::from(left) << ID_BITS) | u64::from(right);
        (pair, (pair.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize)
    }

    /// The slot of a pair, or the empty one where it belongs.
    #[inline(always)]
    fn find(&self, pair: u64, hash: usize) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = hash & mask;
        while self.slots[at] >> ID_BITS != pair && self.slots[at] != EMPTY {
            at = (at + 1) & mask;
        }
        at
    }

    /// Where the bit of a pair is: word and place.
    #[inline(always)]
    fn bit(&self, hash: usize) -> (usize, usize) {
        ((hash >> 6) & (self.maybe.len() - 1), hash & 63)
    }

    #[inline(always)]
    fn get(&self, left: u32, right: u32) -> Option<u32> {
        let (pair, hash) = Merges::pair_and_hash(left, right);
        let (word, place) = self.bit(hash);
        if self.maybe[word] >> place & 1 == 0 {
            return None;
        }
        let slot = self.slots[self.find(pair, hash)];
        (slot != EMPTY).then_some(slot as u32 & (MOST_TOKENS as u32 - 1))
    }

    fn insert(&mut self, left: u32, right: u32, id: u32) {
        let (pair, hash) = Merges::pair_and_hash(left, right);
        let (at, (word, place)) = (self.find(pair, hash), self.bit(hash));
        self.slots[at] = pair << ID_BITS | u64::from(id);
        self.maybe[word] |= 1 << place;
    }
}

/// Bytes -> node -> token, to find tokens that a text begins with. The nodes of one and of two bytes are
/// found by these bytes themselves, the others by parent and byte.
struct Trie {
    pairs: Vec<u32>,
    deeper: FxHashMap<u64, u32>,
    /// Node -> token that ends there, or NONE; the first 256 nodes are the single bytes.
    tokens: Vec<u32>,
}

impl Default for Trie {
    fn default() -> Self {
        Trie { pairs: vec![NONE; 1 << 16], deeper: FxHashMap::default(), tokens: vec![NONE; 256] }
    }
}

impl Trie {
    fn insert(&mut self, token: &[u8], id: u32) {
        let mut node = u32::from(token[0]);
        for depth in 1..token.len() {
            let new = self.tokens.len() as u32;
            node = match depth {
                1 => {
                    let slot = &mut self.pairs[pair_index(token)];
                    *slot = if *slot == NONE { new } else { *slot };
                    *slot
                }
                _ => *self.deeper.entry(child_key(node, token[depth])).or_insert(new),
            };
            if node == new {
                self.tokens.push(NONE);
            }
        }
        self.tokens[node as usize] = id;
    }

    /// The longest token that `token` begins with, itself left out, or NONE.
    fn longest_within(&self, token: &[u8]) -> u32 {
        match token.len() {
            1 => NONE,
            len => self.longest(&token[..len - 1]),
        }
    }

    fn longest(&self, bytes: &[u8]) -> u32 {
        let mut longest = self.tokens[usize::from(bytes[0])];
        if bytes.len() < 2 {
            return longest;
        }
        let mut node = self.pairs[pair_index(bytes)];
        let mut rest = bytes[2..].iter();
        while node != NONE {
            let token = self.tokens[node as usize];
            longest = if token == NONE { longest } else { token };
            let Some(&byte) = rest.next() else { break };
            node = self.deeper.get(&child_key(node, byte)).copied().unwrap_or(NONE);
        }
        longest
    }
}

fn pair_index(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) << 8 | usize::from(bytes[1])
}

fn child_key(node: u32, byte: u8) -> u64 {
    u64::from(node) << 8 | u64::from(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_and(tokens: &[&str]) -> Vec<Vec<u8>> {
        let bytes = (0..=u8::MAX).map(|byte| vec![byte]);
        bytes.chain(tokens.iter().map(|token| token.as_bytes().to_vec())).collect()
    }

    fn refusal(ranks: &[Vec<u8>]) -> String {
        Vocabulary::new(ranks).err().unwrap().to_string()
    }

    #[test]
    fn tokens_are_found_by_bytes_and_by_id() {
        let long = "a".repeat(40);
        let mut tokens =
            vec!["aa", "aaaa", "aaaaaaaa", "aaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaaaaaaaaaa"];
        tokens.push(&long[..32]);
        let vocabulary = Vocabulary::new(&bytes_and(&tokens)).unwrap();
        assert_eq!(vocabulary.len(), 262);
        for (id, token) in (256..).zip(&tokens) {
            assert_eq!(vocabulary.token(id), Some(token.as_bytes()));
            assert_eq!(vocabulary.id_of(token.as_bytes()), Some(id));
        }
        assert_eq!(vocabulary.id_of(b"ab"), None);
        assert_eq!(vocabulary.token(262), None);
        assert_eq!(vocabulary.longest_prefix(long.as_bytes()), 261);
        assert_eq!(vocabulary.shorter_prefix(261), 260);
        assert_eq!(vocabulary.longest_prefix(b"b"), u32::from(b'b'));
    }

    #[test]
    fn what_is_no_vocabulary_is_refused() {
        let ranks = bytes_and(&["ab", "cd"]);
        let with = |token: &str| [ranks.clone(), vec![token.into()]].concat();
        assert_eq!(refusal(&with("ab")), "ranks 256 and 258 are the same token");
        assert_eq!(refusal(&with("")), "rank 258 is empty");
        assert_eq!(refusal(&with("abc_")), "rank 258 is not two earlier tokens joined");
        assert_eq!(refusal(&ranks[1..]), "ranks have no token for the byte 0x00");
        let hidden = bytes_and(&["bc", "ab", "cd", "abcd"]);
        assert_eq!(refusal(&hidden), "rank 259 never comes up: its bytes encode to other tokens");
    }
}
