//! What pieces were encoded to before.

use crate::pieces::{Key, hash};

const SLOTS: usize = 1 << 16;
/// Ids that fit into a slot.
const INLINE: usize = 3;

/// A map from short pieces to their tokens of a fixed size; a piece takes the place of another that
/// has the same slot. Pieces of more than three tokens are rare and not kept.
pub struct Cache {
    slots: Vec<Slot>,
}

/// 32 bytes: half a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
struct Slot {
    key: Key,
    ids: [u32; INLINE],
    len: u32,
}

impl Default for Cache {
    fn default() -> Self {
        Cache { slots: vec![Slot { key: 0, ids: [0; INLINE], len: 0 }; SLOTS] }
    }
}

impl Cache {
    /// Pushes the tokens of the piece `key`, by `encode` if they are not known.
    #[inline(always)]
    pub fn push_or_insert(
        &mut self,
        key: Key,
        tokens: &mut Vec<u32>,
        encode: impl FnOnce(&mut Vec<u32>),
    ) {
        let slot = &mut self.slots[hash(key) as usize % SLOTS];
        if slot.key == key {
            // One copy of a fixed size is quicker than one of the right size.
            tokens.extend_from_slice(&slot.ids);
            tokens.truncate(tokens.len() - (INLINE - slot.len as usize));
            return;
        }
        let before = tokens.len();
        encode(tokens);
        let ids = &tokens[before..];
        if ids.len() <= INLINE {
            *slot = Slot { key, ids: [0; INLINE], len: ids.len() as u32 };
            slot.ids[..ids.len()].copy_from_slice(ids);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_not_encoded_again() {
        let mut cache = Cache::default();
        for round in 0..2 {
            for (key, ids) in [(1, vec![7]), (2, vec![8, 9]), (3, vec![1, 2, 3])] {
                let mut tokens = vec![5];
                cache.push_or_insert(key, &mut tokens, |tokens| {
                    assert_eq!(round, 0);
                    tokens.extend(&ids);
                });
                assert_eq!(tokens, [vec![5], ids].concat());
            }
        }
    }

    #[test]
    fn many_pieces_share_the_slots() {
        let mut cache = Cache::default();
        for key in (1..4 * SLOTS as Key).chain(1..1000) {
            let mut tokens = Vec::new();
            cache.push_or_insert(key, &mut tokens, |tokens| {
                tokens.extend(vec![key as u32; key as usize % 5 + 1])
            });
            assert_eq!(tokens, vec![key as u32; key as usize % 5 + 1]);
        }
    }
}
