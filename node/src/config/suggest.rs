//! "Did you mean": the known name nearest to a mistyped one.

/// The nearest of `known` to `got`, when it is near enough to be a slip of the fingers: at most a third
/// of the letters differ.
pub(crate) fn did_you_mean<'a>(got: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let letters_max = (got.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|name| (distance(got, name), name))
        .filter(|(distance, _)| *distance <= letters_max)
        .min()
        .map(|(_, name)| name)
}

/// Edits (insert, delete, replace, swap of neighbours) from one text to the other.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for i in 1..=from.len() {
        let mut next = vec![i];
        for j in 1..=to.len() {
            let changed = usize::from(from[i - 1] != to[j - 1]);
            let mut best = (row[j] + 1).min(next[j - 1] + 1).min(row[j - 1] + changed);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_a_swap_as_one_edit() {
        assert_eq!(distance("listen", "listen"), 0);
        assert_eq!(distance("lisetn", "listen"), 1);
        assert_eq!(distance("lisen", "listen"), 1);
        assert_eq!(distance("", "abc"), 3);
    }

    #[test]
    fn only_near_names_are_suggested() {
        let known = ["rpc.listen", "rpc.grpc_listen", "log.level"];
        assert_eq!(did_you_mean("rpc.lisen", known), Some("rpc.listen"));
        assert_eq!(did_you_mean("log.levle", known), Some("log.level"));
        assert_eq!(did_you_mean("consensus.timeout", known), None);
    }
}
