//! The typed methods.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cairn_receipt::AnchorReceipt;
use cairn_types::identity::Identity;
use cairn_types::{
    Address, Block, CommitCert, Genesis, Header, ProofId, Record, SignedTransaction, TxId, encode,
};
use serde_json::{Value, json};

use crate::answers::{
    self, BlockRef, ChainStatus, Checked, Page, ProofFilter, ProofQuery, ProofState, Read, Submitted,
    TxState, Wait, When,
};
use crate::fault::{ClientFault, RpcError};
use crate::transport::{Client, rpc_error};

/// Transactions of one [`Client::proof_anchor_many`], at most.
pub const ANCHORED_AT_ONCE_MAX: usize = 100;

impl Client {
    /// Where the chain and the node are.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn status(&self) -> Result<ChainStatus, ClientFault> {
        let read = |value: &Value| serde_json::from_value(value.clone()).map_err(|error| error.to_string());
        self.read("chain_status", json!({}), read).await
    }

    /// Where a proof is.
    ///
    /// # Errors
    /// As [`Client::call`]; kind `not_found` when the node knows no such proof.
    pub async fn proof_get(&self, query: &ProofQuery) -> Result<ProofState, ClientFault> {
        self.read("proof_get", query.to_json(), answers::proof_state).await
    }

    /// Where a proof was as of a block or a time.
    ///
    /// # Errors
    /// As [`Client::call`]; kind `not_found` when it was not anchored by then.
    pub async fn proof_get_at(
        &self,
        query: &ProofQuery,
        when: impl Into<When>,
    ) -> Result<ProofState, ClientFault> {
        self.read("proof_get", when.into().among(query.to_json()), answers::proof_state).await
    }

    /// Final proofs, in the order of the anchor log.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn proof_list(&self, filter: &ProofFilter) -> Result<Page<Record>, ClientFault> {
        let read = |value: &Value| {
            let next = value.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
            Ok(Page { items: answers::records(value, "items")?, next })
        };
        self.read("proof_list", filter.to_json(), read).await
    }

    /// The part of a proof's receipt that a node holds, verified against the genesis.
    ///
    /// # Errors
    /// As [`Client::call`]; [`ClientFault::ReceiptRefused`] when it does not verify or is of another proof.
    pub async fn receipt_get(&self, proof: ProofId) -> Result<AnchorReceipt, ClientFault> {
        let params = json!({ "proof_id": proof.to_string(), "form": "standalone" });
        let (url, value) = self.call_somewhere("receipt_get", &params).await?;
        self.verified_anchor(&url, proof, &value).map(|(core, _)| core)
    }

    /// Submits a signed transaction of any kind.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn tx_submit(&self, signed: &SignedTransaction, wait: Wait) -> Result<Submitted, ClientFault> {
        let params = json!({ "tx": STANDARD.encode(encode(signed)), "wait": wait.name() });
        self.read("tx_submit", params, answers::submitted).await
    }

    /// Whether a node would take a signed transaction; nothing comes of it.
    ///
    /// # Errors
    /// As [`Client::call`], with the kind that submitting would have.
    pub async fn tx_check(&self, signed: &SignedTransaction) -> Result<Checked, ClientFault> {
        self.read("tx_check", json!({ "tx": STANDARD.encode(encode(signed)) }), answers::checked).await
    }

    /// Submits up to [`ANCHORED_AT_ONCE_MAX`] signed PROOF transactions: what became of each, in the same order. Receipts are fetched with
    /// [`Client::receipt_get`].
    ///
    /// # Errors
    /// As [`Client::call`], where there is no answer for any of them.
    pub async fn proof_anchor_many(
        &self,
        signed: &[SignedTransaction],
        wait: Wait,
    ) -> Result<Vec<Result<Submitted, RpcError>>, ClientFault> {
        let txs: Vec<_> = signed.iter().map(|signed| STANDARD.encode(encode(signed))).collect();
        let params = json!({ "txs": txs, "wait": wait.name() });
        let (url, value) = self.call_somewhere("proof_anchor_many", &params).await?;
        let outcome = |item: &Value| match item.get("error") {
            Some(error) => Ok(Err(rpc_error(&url, error.clone()))),
            None => answers::field(item, "result").and_then(answers::submitted).map(Ok),
        };
        let items = answers::list(&value, "items")
            .and_then(|items| items.iter().map(outcome).collect::<Read<Vec<_>>>())
            .and_then(|items| match items.len() == signed.len() {
                true => Ok(items),
                false => Err(format!("{} items for {} transactions", items.len(), signed.len())),
            });
        let method = "proof_anchor_many".to_owned();
        items.map_err(|why| ClientFault::BadAnswer { url, method, why })
    }

    /// Where a transaction is.
    ///
    /// # Errors
    /// As [`Client::call`]; kind `not_found` when the node knows no such transaction.
    pub async fn tx_get(&self, tx: TxId) -> Result<TxState, ClientFault> {
        self.read("tx_get", json!({ "tx_id": tx.to_string() }), answers::tx_state).await
    }

    /// A final block. Its transactions are those its header commits to; the header itself is not verified.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn chain_block(&self, at: BlockRef) -> Result<Block, ClientFault> {
        self.read("chain_block", json!({ "at": at.to_json() }), answers::block).await
    }

    /// A final header.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn chain_header(&self, at: BlockRef) -> Result<Header, ClientFault> {
        let read = |value: &Value| answers::canonical(value, "header_b64");
        self.read("chain_header", json!({ "at": at.to_json() }), read).await
    }

    /// The certificate that made a block final.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn chain_certificate(&self, at: BlockRef) -> Result<CommitCert, ClientFault> {
        let read = |value: &Value| answers::canonical(value, "certificate_b64");
        self.read("chain_certificate", json!({ "at": at.to_json() }), read).await
    }

    /// The node's genesis. Compare its hash with one you trust before building on it.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn chain_genesis(&self) -> Result<Genesis, ClientFault> {
        let read =
            |value: &Value| cairn_genesis::parse(&value.to_string()).map_err(|fault| fault.to_string());
        self.read("chain_genesis", json!({}), read).await
    }

    /// A registered identity as of the last final block.
    ///
    /// # Errors
    /// As [`Client::call`]; kind `not_found` or `unknown_identity` when it is not registered.
    pub async fn identity_get(&self, address: Address) -> Result<Identity, ClientFault> {
        let params = json!({ "did": format!("did:cairn:{address}") });
        self.read("identity_get", params, answers::identity).await
    }

    pub(crate) async fn read<T>(
        &self,
        method: &str,
        params: Value,
        read: impl Fn(&Value) -> Read<T>,
    ) -> Result<T, ClientFault> {
        let value = self.call(method, params).await?;
        let url = self.nodes().join(", ");
        read(&value).map_err(|why| ClientFault::BadAnswer { url, method: method.into(), why })
    }
}
