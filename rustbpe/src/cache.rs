//! What pieces were encoded to before.

use crate::pieces::{self, Key};

/// Sets of two slots each, of which one piece may have either: 4 MB, of which only what is used is touched.
const SETS: usize = 1 << 16;
/// Ids that fit into a slot.
const INLINE: usize = 3;
/// Ids of pieces with more than that, all together; then everything is forgotten.
const MOST_MORE: usize = 1 << 20;

/// A map from short pieces to their tokens, of a limited size: a new piece takes the place of the one that
/// came to the same set before the last.
pub struct Cache {
    sets: Vec<[Slot; 2]>,
    /// The ids of pieces that have more than fit into a slot.
    more: Vec<u32>,
}

/// The two halves of the key; three ids and their number, 32 bits each. If they are more than `INLINE`, the
/// first is where they begin in `more`. Plain words, so that memory that is zero already need not be cleared.
type Slot = [u64; 4];

fn slot(key: Key, ids: [u32; INLINE], len: usize) -> Slot {
    let [first, second, third] = ids.map(u64::from);
    let [low, high] = pieces::halves(key);
    [low, high, first | second << 32, third | (len as u64) << 32]
}

#[inline(always)]
fn ids(slot: &Slot) -> ([u32; INLINE], usize) {
    ([slot[2] as u32, (slot[2] >> 32) as u32, slot[3] as u32], (slot[3] >> 32) as usize)
}

impl Default for Cache {
    fn default() -> Self {
        Cache { sets: vec![[[0; 4]; 2]; SETS], more: Vec::new() }
    }
}

impl Cache {
    /// Begins to bring what is known of a piece near.
    #[inline(always)]
    pub fn fetch(&self, hash: u64) {
        pieces::fetch(&self.sets, set_of(hash));
    }

    /// Pushes the tokens of the piece `key`, by `encode` if they are not known.
    #[inline(always)]
    pub fn push_or_insert(
        &mut self,
        key: Key,
        hash: u64,
        tokens: &mut Vec<u32>,
        encode: impl FnOnce(&mut Vec<u32>),
    ) {
        let set = &self.sets[set_of(hash)];
        if let Some(slot) = set.iter().find(|slot| has(slot, key)) {
            push(slot, &self.more, tokens);
        } else {
            let before = tokens.len();
            encode(tokens);
            self.insert(key, hash, &tokens[before..]);
        }
    }

    fn insert(&mut self, key: Key, hash: u64, tokens: &[u32]) {
        let mut ids = [0; INLINE];
        if tokens.len() <= INLINE {
            ids[..tokens.len()].copy_from_slice(tokens);
        } else {
            if self.more.len() > MOST_MORE {
                *self = Cache::default();
            }
            ids[0] = self.more.len() as u32;
            self.more.extend_from_slice(tokens);
        }
        let set = &mut self.sets[set_of(hash)];
        *set = [slot(key, ids, tokens.len()), set[0]];
    }
}

#[inline(always)]
fn set_of(hash: u64) -> usize {
    (hash >> 32) as usize % SETS
}

#[inline(always)]
fn has(slot: &Slot, key: Key) -> bool {
    slot[..2] == pieces::halves(key)
}

#[inline(always)]
fn push(slot: &Slot, more: &[u32], tokens: &mut Vec<u32>) {
    let (ids, len) = ids(slot);
    if len <= INLINE {
        // One copy of a fixed size is quicker than one of the right size.
        tokens.extend_from_slice(&ids);
        tokens.truncate(tokens.len() - (INLINE - len));
    } else {
        tokens.extend_from_slice(&more[ids[0] as usize..][..len]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_not_encoded_again() {
        let mut cache = Cache::default();
        for round in 0..2 {
            for (key, ids) in
                [(1, vec![7]), (2, vec![8, 9]), (3, vec![1, 2, 3]), (4, vec![1, 2, 3, 4, 5])]
            {
                let mut tokens = vec![5];
                cache.push_or_insert(key, pieces::hash(key), &mut tokens, |tokens| {
                    assert_eq!(round, 0);
                    tokens.extend(&ids);
                });
                assert_eq!(tokens, [vec![5], ids].concat());
            }
        }
    }

    #[test]
    fn many_pieces_share_the_sets() {
        let mut cache = Cache::default();
        for key in (1..8 * SETS as Key).chain(1..1000) {
            let mut tokens = Vec::new();
            cache.push_or_insert(key, pieces::hash(key), &mut tokens, |tokens| {
                tokens.extend(vec![key as u32; key as usize % 6 + 1])
            });
            assert_eq!(tokens, vec![key as u32; key as usize % 6 + 1]);
        }
    }
}
