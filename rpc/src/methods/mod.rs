//! The method table: every call this node answers, in one place. Registration, OpenRPC, the
//! documentation, the command line's help and the tests of all examples are made from it.

mod chain;
mod compat;
mod compat_table;
mod identity;
mod links;
mod log;
mod node;
mod proof;
mod shapes;
mod tx;

pub(crate) use identity::state_text;
pub(crate) use log::{BUNDLE_RECORDS_MAX, bundle_text, consistency_path};
pub(crate) use proof::{kind_of, receipt_text};
use serde_json::Value;

use crate::method::{Field, Method, Serve};

/// A part of the table, with the heading it has in the documentation.
pub(crate) struct Group {
    pub(crate) title: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) methods: &'static [Method],
}

/// The whole table.
pub(crate) const GROUPS: &[Group] = &[
    Group {
        title: "Proofs and receipts",
        doc: "Anchor Merkle roots and read back what the chain says about them.",
        methods: proof::METHODS,
    },
    Group {
        title: "Chains of proofs, and what is said about them",
        doc: "Proofs that continue one another, and proofs about proofs.",
        methods: links::METHODS,
    },
    Group {
        title: "Transactions",
        doc: "Submit, dry-run and find transactions of any kind.",
        methods: tx::METHODS,
    },
    Group {
        title: "Chain",
        doc: "Final blocks, certificates, parameters and what verifiers trust. `latest` is final.",
        methods: chain::METHODS,
    },
    Group {
        title: "The anchor log, for holders of receipts and auditors",
        doc: "Many receipts at once, proofs that the log only grows, blocks in bulk, and the log's checkpoint for other worlds' tools.",
        methods: log::METHODS,
    },
    Group {
        title: "Identities, delegation, shared control",
        doc: "Who may sign for an address, who may act for whom, and what several keys decide together. Every change is a transaction (`tx_submit`).",
        methods: identity::METHODS,
    },
    Group {
        title: "Validators, node",
        doc: "Who signs blocks, and how this node is doing.",
        methods: node::METHODS,
    },
    Group {
        title: "Names that other tools already use",
        doc: "CometBFT's method names, and those an existing proof server's client calls. New programs should use the methods above.",
        methods: compat_table::METHODS,
    },
];

/// Every row.
pub(crate) fn all() -> impl Iterator<Item = &'static Method> {
    GROUPS.iter().flat_map(|group| group.methods)
}

/// The row of this name.
pub(crate) fn find(name: &str) -> Option<&'static Method> {
    all().find(|method| method.name == name)
}

/// Every name that can be called, those that end subscriptions included.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    all().flat_map(|method| {
        let unsubscribe = match method.serve {
            Serve::Subscribe { unsubscribe, .. } => Some(unsubscribe),
            Serve::Call(_) => None,
        };
        [Some(method.name), unsubscribe].into_iter().flatten()
    })
}

/// Sample values that stand in for the placeholders of examples.
const SAMPLES: &[(&str, &str)] = &[
    ("<proof_id>", "5f1d0e3c9b7a48d2a6c4f8e01b2d3c4e5f60718293a4b5c6d7e8f90a1b2c3d4e"),
    ("<tx_id>", "a3b1c2d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90"),
    ("<root>", "0c1d2e3f405162738495a6b7c8d9eafb0c1d2e3f405162738495a6b7c8d9eafb"),
    ("<address>", "7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d"),
    ("<block_id>", "94a5b6c7d8e9fa0b1c2d3e4f5061728394a5b6c7d8e9fa0b1c2d3e4f50617283"),
];

/// An example's parameters with sample values in place of ids. `<tx>` and `<receipt>` stay as they are
/// unless `also` replaces them: they are kilobytes.
pub(crate) fn example(method: &Method, also: &[(&str, &str)]) -> Value {
    let replaced = also
        .iter()
        .chain(SAMPLES)
        .fold(method.example.to_owned(), |text, (name, value)| text.replace(name, value));
    serde_json::from_str(&replaced).unwrap_or(Value::Null)
}

/// Fields of a page's request.
pub(crate) const fn limit_field() -> Field {
    crate::method::opt("limit", crate::method::Shape::Int, "items on the page, 1 to 100; 100 when left out")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_every_example_names_known_fields() {
        let mut seen = BTreeSet::new();
        for name in names() {
            assert!(seen.insert(name), "{name} is there twice");
        }
        for method in all() {
            let Value::Object(example) = example(method, &[]) else {
                panic!("{}: {}", method.name, method.example)
            };
            for name in example.keys() {
                assert!(method.params.iter().any(|field| field.name == name), "{}: {name}", method.name);
            }
        }
    }
}
