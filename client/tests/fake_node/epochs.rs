//! Validators that change: three epochs of a fake chain, the hand-overs between them, and lies about both.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cairn_crypto::KeyPair;
use cairn_types::receipt::EpochHandover;
use cairn_types::{
    CommitCert, Epoch, Genesis, Hash, Header, Height, Validator, ValidatorIndex, ValidatorSet, View, encode,
};
use serde_json::{Value, json};

use super::{Act, Chain};

/// The last block that the validators of epochs 0 and 1 sign.
pub(crate) const ENDS: [u64; 2] = [3, 6];

/// The sets of epochs 0 to 2, and how each hands over to the next.
pub(crate) struct Epochs {
    pub(crate) sets: Vec<ValidatorSet>,
    handovers: Vec<EpochHandover>,
    forged: EpochHandover,
}

fn certified(header: &Header, keys: &[KeyPair]) -> CommitCert {
    let build = |votes| CommitCert::new(header.epoch, header.view, header.id(), 4, votes);
    let preimage = build(Vec::new()).preimage(header.chain);
    build((0..).zip(keys).take(3).map(|(index, key)| (ValidatorIndex(index), key.sign(&preimage))).collect())
}

fn handover(
    genesis: &Genesis,
    (from, to): (&ValidatorSet, &ValidatorSet),
    keys: &[KeyPair],
    end: u64,
) -> EpochHandover {
    let last = Header {
        epoch: from.epoch(),
        height: Height::new(end),
        view: View::new(end),
        tx_count: 1,
        validators: from.digest(),
        next_validators: to.digest(),
        ..genesis.header(Hash([4; 32])).unwrap()
    };
    EpochHandover {
        headers: vec![encode(&last)],
        certificate: encode(&certified(&last, keys)),
        validators: encode(to),
    }
}

impl Epochs {
    pub(crate) fn of(chain: &Chain) -> Self {
        let committees = [chain.clone(), Chain::new(), Chain::new()];
        let set = |(epoch, it): (u64, &Chain)| {
            let validators: Vec<Validator> = it.genesis.validators.clone();
            ValidatorSet::new(Epoch::new(epoch), validators).unwrap()
        };
        let sets: Vec<_> = (0..).zip(&committees).map(set).collect();
        let step = |epoch: usize, by: &Chain| {
            handover(&chain.genesis, (&sets[epoch], &sets[epoch + 1]), &by.keys, ENDS[epoch])
        };
        let handovers = vec![step(0, &committees[0]), step(1, &committees[1])];
        let forged = step(0, &committees[2]);
        Self { handovers, forged, sets }
    }

    /// `chain_trust`, one hand-over a call.
    pub(crate) fn trust(&self, params: &Value, act: Option<Act>) -> Value {
        let from = usize::try_from(params["from_epoch"].as_u64().unwrap()).unwrap();
        let step = match act {
            Some(Act::ForgedSignatures) => Some(&self.forged),
            _ => self.handovers.get(from),
        };
        let b64 = |bytes: &Vec<u8>| STANDARD.encode(bytes);
        let shown = step.map(|it| {
            json!({ "headers": it.headers.iter().map(b64).collect::<Vec<_>>(), "certificate": b64(&it.certificate),
                    "validators": b64(&it.validators) })
        });
        let set = json!({ "validators_b64": STANDARD.encode(encode(&self.sets[from])) });
        json!({ "sets": [set], "handovers": shown.into_iter().collect::<Vec<_>>() })
    }

    /// `validator_list`: by height, or by a time of which height `h` has `h` seconds.
    pub(crate) fn list(&self, params: &Value, act: Option<Act>) -> Value {
        let height = match (&params["at"], &params["at_time"]) {
            (Value::Number(at), _) => at.as_u64().unwrap(),
            (_, Value::String(time)) => time.parse::<u64>().unwrap() / 1_000,
            _ => 9,
        };
        let honest = ENDS.iter().filter(|end| height > **end).count();
        let foreign = Chain::new();
        let set = match act {
            Some(Act::OtherValidators) => {
                ValidatorSet::new(Epoch::new(honest as u64), foreign.genesis.validators).unwrap()
            }
            Some(Act::NotInLog) => self.sets[(honest + 1) % 3].clone(),
            _ => self.sets[honest].clone(),
        };
        let item = |it: &Validator| {
            json!({ "address": it.address.to_string(), "scheme": it.key.scheme().name(),
                    "key_b64": STANDARD.encode(it.key.as_bytes()), "power": it.power })
        };
        let items: Vec<_> = set.validators().iter().map(item).collect();
        json!({ "height": height, "epoch": set.epoch().get(), "digest": set.digest().to_string(), "items": items })
    }
}
