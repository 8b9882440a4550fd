//! The trust border as a type.

use std::ops::Deref;

/// A `T` whose signatures have been checked. Only `cairn-crypto` makes one from outside bytes; the
/// core accepts nothing else, so an unverified message cannot reach it by mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    /// Declares `value` verified without checking anything. For `cairn-crypto`, for certificates formed
    /// from parts that were each verified, and for tests and simulations: `clippy.toml` refuses it elsewhere.
    pub const fn assume(value: T) -> Self {
        Self(value)
    }

    /// The value, giving the guarantee up.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
