//! "Did you mean": the known name nearest to a mistyped one.

/// Names longer than this are not compared: nobody mistypes so much.
const NAME_BYTES_MAX: usize = 64;

/// The known name within a few edits of `name`.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return None;
    }
    let allowed = (name.chars().count() / 3).clamp(1, 4);
    known
        .into_iter()
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(edits, _)| *edits <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance, without regard to case.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().map(|c| c.to_ascii_lowercase()).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().map(|c| c.to_ascii_lowercase()).enumerate() {
        let mut diagonal = i;
        let mut previous = i + 1;
        for (cell, right) in row.iter_mut().skip(1).zip(&b) {
            let edited = diagonal + usize::from(left != *right);
            diagonal = *cell;
            previous = edited.min(*cell + 1).min(previous + 1);
            *cell = previous;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "SAME"), 0);
    }

    #[test]
    fn a_near_name_is_found_and_a_far_one_is_not() {
        let known = ["proof_get", "proof_list", "chain_status"];
        assert_eq!(nearest("prof_get", known), Some("proof_get"));
        assert_eq!(nearest("chain_stat", known), Some("chain_status"));
        assert_eq!(nearest("eth_blockNumber", known), None);
    }
}
