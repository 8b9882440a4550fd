//! Rehearsed disasters: a node that is told to die at a named point, or to lose at its death whatever was not
//! synced. For networks on one machine only; `cairn start` refuses a rehearsal anywhere else.

use std::fmt;
use std::str::FromStr;

use crate::fault::Fault;

/// A step of a block's life, or the end of an epoch, at which a node can be told to die.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Point {
    /// Bodies and certificates are written to the safety journal's log, not synced.
    LogWritten,
    /// They are synced; the record that names them is not written.
    LogSynced,
    /// The safety record is written, not synced.
    RecordWritten,
    /// The safety record is synced; nothing that it allows is signed.
    RecordSynced,
    /// A message is signed, and not sent.
    Signed,
    /// A final block is about to be written to the state.
    Final,
    /// A final block's batch is written, not synced.
    BatchWritten,
    /// The state is synced; nobody has been told.
    StateSynced,
    /// An epoch's last block, its proof and the next validators are synced; the next epoch has not begun here.
    EpochSynced,
}

impl Point {
    /// Every point.
    pub const ALL: [Self; 9] = [
        Self::LogWritten,
        Self::LogSynced,
        Self::RecordWritten,
        Self::RecordSynced,
        Self::Signed,
        Self::Final,
        Self::BatchWritten,
        Self::StateSynced,
        Self::EpochSynced,
    ];

    /// Those that every block meets, in its order.
    pub const OF_BLOCKS: [Self; 8] = [
        Self::LogWritten,
        Self::LogSynced,
        Self::RecordWritten,
        Self::RecordSynced,
        Self::Signed,
        Self::Final,
        Self::BatchWritten,
        Self::StateSynced,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LogWritten => "log-written",
            Self::LogSynced => "log-synced",
            Self::RecordWritten => "record-written",
            Self::RecordSynced => "record-synced",
            Self::Signed => "signed",
            Self::Final => "final",
            Self::BatchWritten => "batch-written",
            Self::StateSynced => "state-synced",
            Self::EpochSynced => "epoch-synced",
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is lost when the process dies, as in a power cut.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Loss {
    /// Nothing: the kernel has it.
    #[default]
    Nothing,
    /// Whatever was not synced.
    Unsynced,
    /// Of what was not synced, the bodies of final blocks alone: a kernel may be quicker to write all the rest.
    Bodies,
}

impl Loss {
    /// Every loss.
    pub const ALL: [Self; 3] = [Self::Nothing, Self::Unsynced, Self::Bodies];

    /// Its name on the command line; none for nothing.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::Nothing => None,
            Self::Unsynced => Some("lose-unsynced"),
            Self::Bodies => Some("lose-bodies"),
        }
    }
}

/// What a node is to rehearse: `lose-unsynced` or `lose-bodies`, `<point>:<pass>`, or both, with a comma between.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rehearsal {
    /// What is lost with the process.
    pub loss: Loss,
    /// Die when this point is passed for the n-th time, n from 1.
    pub die_at: Option<(Point, u64)>,
}

impl fmt::Display for Rehearsal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lose = self.loss.name().map(str::to_owned);
        let die = self.die_at.map(|(point, pass)| format!("{point}:{pass}"));
        f.write_str(&lose.into_iter().chain(die).collect::<Vec<_>>().join(","))
    }
}

impl FromStr for Rehearsal {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let mut rehearsal = Self::default();
        for part in text.split(',') {
            if let Some(loss) = Loss::ALL.into_iter().find(|loss| loss.name() == Some(part)) {
                rehearsal.loss = loss;
                continue;
            }
            match part.split_once(':') {
                Some((name, pass)) => {
                    let point = Point::ALL.into_iter().find(|point| point.name() == name);
                    let pass = pass.parse().ok().filter(|pass| *pass > 0);
                    rehearsal.die_at =
                        Some(point.zip(pass).ok_or_else(|| Fault::Rehearsal { text: part.to_owned() })?);
                }
                None => return Err(Fault::Rehearsal { text: part.to_owned() }),
            }
        }
        Ok(rehearsal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rehearsal_is_read_as_it_is_written() {
        for die_at in Point::ALL.map(|point| Some((point, 7))).into_iter().chain([None]) {
            for loss in Loss::ALL {
                let rehearsal = Rehearsal { loss, die_at };
                if rehearsal != Rehearsal::default() {
                    assert_eq!(rehearsal.to_string().parse::<Rehearsal>().unwrap(), rehearsal);
                }
            }
        }
    }

    #[test]
    fn what_is_no_rehearsal_is_refused_with_the_points_there_are() {
        for text in ["", "final", "final:0", "final:x", "nowhere:1", "lose"] {
            let fault = text.parse::<Rehearsal>().unwrap_err().to_string();
            assert!(fault.contains("batch-written") && fault.contains("lose-unsynced"), "{fault}");
            assert!(fault.contains("lose-bodies"), "{fault}");
        }
    }
}
