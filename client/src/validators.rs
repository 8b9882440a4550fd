//! Who signs blocks, now and then.

use cairn_types::{Address, Epoch, Height, Validator, ValidatorSet};
use serde_json::{Value, json};

use crate::answers::{self, Read, When};
use crate::changes;
use crate::fault::ClientFault;
use crate::transport::Client;

/// The validators that sign a block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signers {
    /// The block; of the latest, the one to come.
    pub height: Height,
    /// The set, as it follows from the genesis.
    pub set: ValidatorSet,
}

/// What a node says of it.
fn signers(value: &Value) -> Read<Signers> {
    let epoch = Epoch::new(answers::int(value, "epoch")?);
    let validators = answers::list(value, "items")?.iter().map(validator).collect::<Read<_>>()?;
    let set = ValidatorSet::new(epoch, validators).map_err(|fault| fault.to_string())?;
    Ok(Signers { height: Height::new(answers::int(value, "height")?), set })
}

fn validator(value: &Value) -> Read<Validator> {
    let key = changes::public_key(value)?;
    let address: Address = answers::id(value, "address")?;
    Ok(Validator { address, key, power: answers::int(value, "power")? })
}

impl Client {
    /// The validators as of a block or a time. The set is verified: it is the one that the genesis leads to, through
    /// hand-overs that each set before it signed, for a block of that height.
    ///
    /// Of a time, that the block is the last not after it is the node's word.
    ///
    /// # Errors
    /// As [`Client::call`]; [`ClientFault::ReceiptRefused`] when the node says something else than the chain did.
    pub async fn validators(&self, when: impl Into<When>) -> Result<Signers, ClientFault> {
        let said = self.read("validator_list", when.into().among(json!({})), signers).await?;
        let handovers = self.handovers(said.set.epoch().next()).await?;
        let refused = |check: &str, detail: String| ClientFault::ReceiptRefused {
            url: self.nodes().join(", "),
            check: check.to_owned(),
            detail,
        };
        let sets = self.trust()?.verifier.validator_sets(&handovers);
        let sets = sets.map_err(|why| refused("epochs", why))?;
        let mut begin = Height::ZERO;
        for (set, end) in sets {
            // The genesis block is signed by nobody, and its set is that of epoch 0.
            let within =
                (begin < said.height || begin == Height::ZERO) && end.is_none_or(|end| said.height <= end);
            if within && set == said.set {
                return Ok(said);
            }
            if within {
                let (got, expected) = (said.set.digest(), set.digest());
                return Err(refused(
                    "validators",
                    format!("it names the set {got} for block {}; the chain has {expected}", said.height),
                ));
            }
            begin = end.unwrap_or(begin);
        }
        Err(refused("validators", format!("no set signs block {}", said.height)))
    }
}
