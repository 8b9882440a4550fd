//! What a manifest says must come out, and what did not.

use crate::manifest::Manifest;
use crate::report::Figures;
use crate::run::Outcome;
use crate::units::Micros;

/// Each assertion that does not hold, as a sentence.
pub(crate) fn missed(manifest: &Manifest, outcome: &Outcome, figures: &Figures) -> Vec<String> {
    let assert = &manifest.assert;
    let mut missed = Vec::new();
    let finality = [
        ("finality_p50_max", assert.finality_p50_max, figures.finality[0]),
        ("finality_p95_max", assert.finality_p95_max, figures.finality[1]),
        ("finality_p99_max", assert.finality_p99_max, figures.finality[2]),
    ];
    for (name, most, got) in finality {
        let Some(most) = most else { continue };
        match got {
            Some(got) if got <= most.0 => {}
            Some(got) => missed.push(format!("{name} = {most}, got {:.1} ms", got as f64 / 1e3)),
            None => missed.push(format!("{name} = {most}, but nothing became final")),
        }
    }
    let least = [
        ("blocks_min", assert.blocks_min, outcome.height),
        ("transactions_min", assert.transactions_min, outcome.finals),
        ("epochs_min", assert.epochs_min, outcome.epochs),
        ("accusations_min", assert.accusations_min, outcome.accusations),
        ("violations_min", assert.violations_min, u64::from(outcome.violation.is_some())),
    ];
    for (name, least, got) in least {
        if let Some(least) = least.filter(|least| got < *least) {
            missed.push(format!("{name} = {least}, got {got}"));
        }
    }
    if let Some(most) = assert.timeouts_max.filter(|most| outcome.timeouts > *most) {
        missed.push(format!("timeouts_max = {most}, got {}", outcome.timeouts));
    }
    missed
}

/// A time in milliseconds with one digit.
pub(crate) fn ms(micros: u64) -> String {
    format!("{:.1}", Micros(micros).0 as f64 / 1e3)
}
