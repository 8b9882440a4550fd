//! BLAKE3 of messages of a few chunks, such as a signature: all full chunks at once, in as many lanes as the processor has. The `blake3`
//! crate takes powers of two of them together, so that three chunks take it as long as two and one.
//!
//! Uses what [`super::short`] uses of the crate; tests compare every result with the crate's own.

use blake3::hazmat::{
    ChainingValue, ContextKey, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root,
};
use blake3::{CHUNK_LEN, IncrementCounter};

use super::Hash;
use super::short::{CHUNK_END, CHUNK_START, DERIVE_KEY_MATERIAL, Key, LANES, platform};

/// Messages that [`hash`] takes have at least so many bytes: of two chunks and a bit the crate takes two together.
pub(super) const BYTES_MIN: usize = 3 * CHUNK_LEN;
/// And at most so many.
pub(super) const BYTES_MAX: usize = LANES * CHUNK_LEN;
/// Inputs that take as long as one, on every processor with lanes at all.
const GROUP: usize = 4;

/// The hash of a message of [`BYTES_MIN`] to [`BYTES_MAX`] bytes; `None` for others.
pub(super) fn hash(context: &ContextKey, key: &Key, message: &[u8]) -> Option<Hash> {
    let (chunks, rest) = message.as_chunks::<CHUNK_LEN>();
    let first = chunks.first().filter(|_| (BYTES_MIN..=BYTES_MAX).contains(&message.len()))?;
    let mut inputs = [first; LANES];
    inputs.iter_mut().zip(chunks).for_each(|(input, chunk)| *input = chunk);
    // A lane left empty costs nothing; three inputs would be two and one.
    let missing = usize::from(chunks.len() % GROUP == GROUP - 1);
    let filled = chunks.len().saturating_add(missing);
    let mut out = [0; 32 * LANES];
    platform().hash_many(
        inputs.get(..filled)?,
        key.words(),
        0,
        IncrementCounter::Yes,
        DERIVE_KEY_MATERIAL,
        CHUNK_START,
        CHUNK_END,
        &mut out,
    );
    let mut values = [[0; 32]; LANES];
    values.copy_from_slice(out.as_chunks::<32>().0);
    let mut count = chunks.len();
    if !rest.is_empty() {
        let mut hasher = blake3::Hasher::new_from_context_key(context);
        hasher.set_input_offset(chunks.as_flattened().len() as u64).update(rest);
        *values.get_mut(count)? = hasher.finalize_non_root();
        count = count.saturating_add(1);
    }
    let (left, right) = halves(values.get(..count)?);
    let mode = || Mode::DeriveKeyMaterial(context);
    let root = merge_subtrees_root(&subtree(left, &mode), &subtree(right, &mode), mode());
    Some(Hash(*root.as_bytes()))
}

/// The two subtrees below a node over so many chunks: the left one is the largest whole one (BLAKE3 paper, section 2.1).
fn halves(values: &[ChainingValue]) -> (&[ChainingValue], &[ChainingValue]) {
    values.split_at(values.len().next_power_of_two() / 2)
}

fn subtree<'a>(values: &[ChainingValue], mode: &impl Fn() -> Mode<'a>) -> ChainingValue {
    match values {
        [alone] => *alone,
        _ => {
            let (left, right) = halves(values);
            merge_subtrees_non_root(&subtree(left, mode), &subtree(right, mode), mode())
        }
    }
}
