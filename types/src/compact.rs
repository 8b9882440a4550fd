//! A proposal that names its transactions instead of carrying them (FORMATS, "Compact proposal").
//!
//! Validators usually hold a block's transactions before it is proposed. The leader then sends each as its
//! 32-byte block leaf; the header commits to the leaves, so nothing else has to be believed.

use std::collections::HashMap;
use std::io::{Read, Result as IoResult};
use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

use crate::block::{BLOCK_TRANSACTIONS_MAX, Block, Header};
use crate::certificate::{BlockCert, TimeoutCert};
use crate::codec::invalid;
use crate::hash::Hash;
use crate::key::Signature;
use crate::message::{Carried, Proposal};
use crate::transaction::SignedTransaction;
use crate::tree;

/// A [`Proposal`] whose block is a header and the leaves of its transactions.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct CompactProposal {
    /// The block's header.
    pub header: Header,
    /// The block leaf of each transaction, in block order.
    pub leaves: Leaves,
    /// The transactions that the receiver is not likely to hold, in block order.
    pub carried: Bodies,
    /// As [`Proposal::justify`].
    pub justify: Carried<BlockCert>,
    /// As [`Proposal::tc`].
    pub tc: Option<Carried<Arc<TimeoutCert>>>,
    /// As [`Proposal::signature`].
    pub signature: Signature,
}

/// Block leaves, at most [`BLOCK_TRANSACTIONS_MAX`].
#[derive(Clone, PartialEq, Eq, Debug, Default, BorshSerialize)]
pub struct Leaves(pub Vec<Hash>);

impl BorshDeserialize for Leaves {
    fn deserialize_reader<R: Read>(reader: &mut R) -> IoResult<Self> {
        bounded(reader).map(Self)
    }
}

/// Transactions, at most [`BLOCK_TRANSACTIONS_MAX`].
#[derive(Clone, PartialEq, Eq, Debug, Default, BorshSerialize)]
pub struct Bodies(pub Vec<Arc<SignedTransaction>>);

impl BorshDeserialize for Bodies {
    fn deserialize_reader<R: Read>(reader: &mut R) -> IoResult<Self> {
        bounded(reader).map(Self)
    }
}

fn bounded<T: BorshDeserialize, R: Read>(reader: &mut R) -> IoResult<Vec<T>> {
    let count = u32::deserialize_reader(reader)? as usize;
    if count > BLOCK_TRANSACTIONS_MAX {
        return Err(invalid(format!(
            "{count} transactions in a block; expected at most {BLOCK_TRANSACTIONS_MAX}"
        )));
    }
    (0..count).map(|_| T::deserialize_reader(reader)).collect()
}

/// Why a compact proposal is not one of its header's block.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum CompactFault {
    #[error("{got} leaves of transactions; the header commits to {expected}")]
    Count { got: usize, expected: u32 },
    #[error("the leaves lead to the transaction root {got}; the header commits to {expected}")]
    Root { got: Hash, expected: Hash },
    #[error("a carried transaction with the leaf {leaf} is not one of the block's")]
    NotOfBlock { leaf: Hash },
}

impl CompactProposal {
    /// The compact form of `proposal`, with the body of each transaction for which `carry` says yes.
    pub fn of(proposal: &Proposal, mut carry: impl FnMut(&SignedTransaction) -> bool) -> Self {
        let transactions = proposal.block.transactions();
        Self {
            header: proposal.block.header().clone(),
            leaves: Leaves(transactions.iter().map(|tx| tx.block_leaf()).collect()),
            carried: Bodies(transactions.iter().filter(|tx| carry(tx)).cloned().collect()),
            justify: proposal.justify.clone(),
            tc: proposal.tc.clone(),
            signature: proposal.signature.clone(),
        }
    }

    /// The proposal with these transactions. Its signature covers the header alone, so it can be checked on a
    /// proposal without any.
    pub fn with(&self, transactions: Vec<Arc<SignedTransaction>>) -> Proposal {
        Proposal {
            block: Arc::new(Block::new(self.header.clone(), transactions)),
            justify: self.justify.clone(),
            tc: self.tc.clone(),
            signature: self.signature.clone(),
        }
    }
}

/// A compact proposal on its way back to a whole one.
#[derive(Clone, Debug)]
pub struct Assembly {
    compact: CompactProposal,
    places: Vec<Option<Arc<SignedTransaction>>>,
}

impl Assembly {
    /// Compares the leaves with the header, and puts the carried transactions into their places.
    ///
    /// # Errors
    /// When the leaves are not the header's, or a carried transaction is none of them.
    pub fn begin(mut compact: CompactProposal) -> Result<Self, CompactFault> {
        let leaves = &compact.leaves.0;
        let expected = compact.header.tx_count;
        if u32::try_from(leaves.len()) != Ok(expected) {
            return Err(CompactFault::Count { got: leaves.len(), expected });
        }
        let (got, expected) = (tree::tx_root(leaves), compact.header.tx_root);
        if got != expected {
            return Err(CompactFault::Root { got, expected });
        }
        let places = vec![None; leaves.len()];
        let carried = std::mem::take(&mut compact.carried.0);
        let mut assembly = Self { compact, places };
        if let Some(leaf) = assembly.place(carried) {
            return Err(CompactFault::NotOfBlock { leaf });
        }
        Ok(assembly)
    }

    /// The block's header.
    pub const fn header(&self) -> &Header {
        &self.compact.header
    }

    /// Puts transactions into their places. Gives the leaf of one that has none.
    pub fn place(&mut self, transactions: Vec<Arc<SignedTransaction>>) -> Option<Hash> {
        if transactions.is_empty() {
            return None;
        }
        let mut given: HashMap<Hash, Arc<SignedTransaction>> =
            transactions.into_iter().map(|tx| (tx.block_leaf(), tx)).collect();
        for (leaf, place) in self.compact.leaves.0.iter().zip(&mut self.places) {
            if let Some(tx) = given.remove(leaf) {
                *place = Some(tx);
            }
        }
        given.into_keys().next()
    }

    /// Looks each missing transaction up by its leaf. What is found is taken only when that is its leaf.
    pub fn fill(&mut self, mut find: impl FnMut(&Hash) -> Option<Arc<SignedTransaction>>) {
        for (leaf, place) in self.compact.leaves.0.iter().zip(&mut self.places) {
            if place.is_none() {
                *place = find(leaf).filter(|tx| tx.block_leaf() == *leaf);
            }
        }
    }

    /// The positions of the transactions that are missing, ascending.
    pub fn missing(&self) -> Vec<u32> {
        (0..).zip(&self.places).filter(|(_, place)| place.is_none()).map(|(position, _)| position).collect()
    }

    /// The whole proposal; `None` while a transaction is missing.
    pub fn whole(&self) -> Option<Proposal> {
        let transactions: Option<Vec<_>> = self.places.iter().cloned().collect();
        Some(self.compact.with(transactions?))
    }
}
