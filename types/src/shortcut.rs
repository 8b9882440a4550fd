//! Steps that a benchmark build can leave out, so that each one's price is seen beside the whole. An ordinary
//! build leaves nothing out and has no code for it: the feature `bench-modes` is what makes a benchmark build,
//! and such a build refuses every network whose name does not begin with [`BENCHMARK_NAME`].

/// How the names of networks begin that benchmark builds run.
pub const BENCHMARK_NAME: &str = "bench-";

/// Whether this is a benchmark build.
pub const BENCHMARK_BUILD: bool = cfg!(feature = "bench-modes");

/// The environment variable that names the steps to leave out, with commas between them.
pub const LEFT_OUT_VARIABLE: &str = "CAIRN_BENCH_WITHOUT";

/// A step that costs time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The signatures of transactions are checked. Those of validators always are.
    Verification,
    /// Files are synced before what rests on them leaves the node.
    Sync,
    /// Transactions are executed: records, logs, the authenticated map. Bodies are stored all the same.
    Execution,
}

impl Step {
    /// Every step.
    pub const ALL: [Self; 3] = [Self::Verification, Self::Sync, Self::Execution];

    /// Its name in [`LEFT_OUT_VARIABLE`].
    pub const fn name(self) -> &'static str {
        match self {
            Self::Verification => "verification",
            Self::Sync => "sync",
            Self::Execution => "execution",
        }
    }
}

/// The steps that a text like `verification,sync` names.
///
/// # Errors
/// A sentence about the first name that is none.
pub fn parse(text: &str) -> Result<Vec<Step>, String> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    let step = |name| Step::ALL.into_iter().find(|step| step.name() == name);
    names
        .map(|name| {
            let known = Step::ALL.map(Step::name).join(", ");
            step(name).ok_or_else(|| format!("{LEFT_OUT_VARIABLE} names '{name}'; expected some of: {known}"))
        })
        .collect()
}

/// Whether a step is left out: never in an ordinary build.
#[cfg(not(feature = "bench-modes"))]
pub const fn is_left_out(_: Step) -> bool {
    false
}

/// Whether a step is left out.
#[cfg(feature = "bench-modes")]
pub fn is_left_out(step: Step) -> bool {
    static LEFT_OUT: std::sync::OnceLock<Vec<Step>> = std::sync::OnceLock::new();
    let read = || parse(&std::env::var(LEFT_OUT_VARIABLE).unwrap_or_default()).unwrap_or_default();
    LEFT_OUT.get_or_init(read).contains(&step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_named_and_wrong_names_are_told() {
        assert_eq!(parse(""), Ok(vec![]));
        assert_eq!(parse(" sync,verification"), Ok(vec![Step::Sync, Step::Verification]));
        let fault = parse("sync,signatures").unwrap_err();
        assert!(fault.contains("'signatures'") && fault.contains("verification, sync, execution"), "{fault}");
    }

    #[cfg(not(feature = "bench-modes"))]
    #[test]
    fn an_ordinary_build_leaves_nothing_out() {
        assert!(!BENCHMARK_BUILD && Step::ALL.into_iter().all(|step| !is_left_out(step)));
    }
}
