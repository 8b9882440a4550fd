//! Exit codes, and how an error carries one up to `main`.

use std::fmt;
use std::process::ExitCode;

use cairn_client::ClientFault;
use cairn_journal::JournalFault;
use cairn_state::StateError;

use crate::config::ConfigFault;
use crate::home::HomeFault;

/// What a process of `cairn` ends with. The numbers are part of the command line's contract.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Yes, done, valid.
    Yes = 0,
    /// No, refused, invalid.
    No = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Submitted, but not final within the time allowed.
    NotFinal = 3,
    /// There is nothing to judge a receipt by: no genesis, or one of another chain.
    TrustMissing = 4,
    /// The configuration or the home is wrong.
    Config = 78,
    /// Signing was refused, to never sign twice.
    SigningRefused = 90,
    /// The chain has moved to a protocol version that this build does not know.
    ProtocolTooNew = 91,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error with the exit code it leads to. Reads like the error it wraps.
#[derive(Debug)]
struct Coded {
    exit: Exit,
    error: anyhow::Error,
}

impl fmt::Display for Coded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl std::error::Error for Coded {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// Gives an error its exit code.
pub(crate) trait WithExit<T> {
    /// The same result, ending the process with `exit` when it is an error.
    fn exit_with(self, exit: Exit) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> WithExit<T> for Result<T, E> {
    fn exit_with(self, exit: Exit) -> anyhow::Result<T> {
        self.map_err(|error| anyhow::Error::new(Coded { exit, error: error.into() }))
    }
}

/// The exit code of an error: the one it was given, or the one its kind implies, else [`Exit::No`].
pub(crate) fn exit_of(error: &anyhow::Error) -> Exit {
    if let Some(coded) = error.downcast_ref::<Coded>() {
        return coded.exit;
    }
    for cause in error.chain() {
        if cause.is::<ConfigFault>() || cause.is::<HomeFault>() {
            return Exit::Config;
        }
        if matches!(cause.downcast_ref(), Some(StateError::Schema { .. } | StateError::WrongGenesis { .. })) {
            return Exit::Config;
        }
        if cause.is::<JournalFault>() {
            return Exit::SigningRefused;
        }
        match cause.downcast_ref::<ClientFault>() {
            Some(ClientFault::NotFinal { .. }) => return Exit::NotFinal,
            Some(fault) if fault.is_kind("timeout_not_final") => return Exit::NotFinal,
            Some(ClientFault::NoGenesis | ClientFault::BadGenesis { .. }) => return Exit::TrustMissing,
            _ => {}
        }
    }
    Exit::No
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn the_code_survives_added_context() {
        let failed: Result<(), _> = Err(anyhow::anyhow!("no genesis"));
        let error = failed.exit_with(Exit::TrustMissing).context("verifying a.bin").expect_err("fails");
        assert_eq!(exit_of(&error), Exit::TrustMissing);
        assert_eq!(format!("{error:#}"), "verifying a.bin: no genesis");
    }

    #[test]
    fn faults_of_home_and_configuration_are_78() {
        let fault = HomeFault::AlreadyAHome { root: "/x".into() };
        assert_eq!(exit_of(&anyhow::Error::new(fault).context("starting")), Exit::Config);
        assert_eq!(exit_of(&anyhow::anyhow!("anything else")), Exit::No);
    }

    #[test]
    fn a_refusing_journal_is_90() {
        let fault = JournalFault::Missing { place: "/x/sign".into() };
        assert_eq!(exit_of(&anyhow::Error::new(fault)), Exit::SigningRefused);
    }
}
