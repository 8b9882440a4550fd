//! Explores the protocol within the bounds given, then hunts every broken twin, and says what it found.

use std::process::ExitCode;

use cairn_model::rules::{Extent, Rules};
use cairn_model::search::{Outcome, Report, STATES_MAX};
use cairn_model::state::{BLOCKS_MAX, VIEWS_MAX};
use cairn_model::twins::{Twin, judge, spares, twins, verify};
use clap::Parser;

/// Exhaustive model of the consensus rules: four validators, one of them Byzantine, with crashes.
#[derive(Parser, Debug)]
struct Arguments {
    /// Views; those of the first epoch when there are two.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=i64::from(VIEWS_MAX)))]
    views: u8,
    /// Views of a second epoch; together with the first at most four.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=3))]
    epoch_views: Option<u8>,
    /// Blocks that may be proposed in one view.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=i64::from(BLOCKS_MAX)))]
    blocks: u8,
    /// Which states are taken for one: those that differ in what cannot matter any more (reduced) or only in names
    /// (plain), or only in names and with moves that take possibilities away (everything).
    #[arg(long, value_parser = ["reduced", "plain", "everything"], default_value = "reduced")]
    extent: String,
    /// Give up beyond this many states (about 70 bytes each).
    #[arg(long, default_value_t = STATES_MAX)]
    states_max: usize,
    /// Only these twins, by name; every one if none is named.
    #[arg(long)]
    twin: Vec<String>,
    /// Only the protocol, no twins.
    #[arg(long, conflicts_with_all = ["twin", "spares"])]
    no_twins: bool,
    /// Also explore the guards that are spare, within the same bounds.
    #[arg(long)]
    spares: bool,
    /// Print the counterexample of each twin.
    #[arg(long)]
    traces: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(faults) => {
            for fault in &faults {
                eprintln!("error: {fault}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Vec<String>> {
    let mut faults = Vec::new();
    if arguments.twin.is_empty() {
        println!(
            "{:<34} {:>11} {:>12} {:>6} {:>9}  result",
            "protocol", "states", "moves", "depth", "seconds"
        );
        for rules in bounds(arguments).map_err(|fault| vec![fault])? {
            let report = verify(&rules, arguments.states_max);
            let verdict = judge(&rules, &report);
            println!("{:<34} {}", title(&rules), figures(&report, verdict.is_ok()));
            faults.extend(verdict.err());
        }
    }
    if !arguments.no_twins {
        faults.extend(hunt(arguments));
    }
    if arguments.spares {
        println!(
            "\n{:<34} {:>11} {:>12} {:>6} {:>9}  result",
            "spare guard", "states", "moves", "depth", "seconds"
        );
        for spare in spares(arguments.views) {
            let report = spare.hunt();
            let verdict = judge(&spare.rules, &report);
            println!("{:<34} {}  {}", spare.name, figures(&report, verdict.is_ok()), spare.what);
            faults.extend(verdict.err());
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// One epoch within the bounds named, and, unless they name one, an epoch boundary.
fn bounds(arguments: &Arguments) -> Result<Vec<Rules>, String> {
    let (views, blocks) = (arguments.views, arguments.blocks);
    let mut all = match arguments.epoch_views {
        None => vec![Rules::new(views, blocks), Rules::epochs(2, 1, blocks), Rules::epochs(1, 2, blocks)],
        Some(second) if views + 1 + second <= VIEWS_MAX => vec![Rules::epochs(views, second, blocks)],
        Some(second) => {
            let most = VIEWS_MAX - 1;
            return Err(format!("two epochs of {views} and {second} views; together at most {most} fit"));
        }
    };
    for rules in &mut all {
        rules.extent = match arguments.extent.as_str() {
            "plain" => Extent::Plain,
            "everything" => Extent::Everything,
            _ => Extent::Reduced,
        };
    }
    Ok(all)
}

fn title(rules: &Rules) -> String {
    let views = match rules.mark {
        None => format!("{} views", rules.views),
        Some(mark) => format!("epochs of {} and {} views", mark - 1, rules.views - mark),
    };
    let extent = match rules.extent {
        Extent::Reduced => "",
        Extent::Plain => ", plain",
        Extent::Everything => ", everything",
    };
    format!("{views}, {} blocks a view{extent}", rules.blocks)
}

fn figures(report: &Report, fine: bool) -> String {
    let result = match (&report.outcome, fine) {
        (Outcome::Holds, _) => "holds".to_owned(),
        (Outcome::Broken(found), _) => format!("BROKEN: {} in {} moves", found.property, found.moves.len()),
        (Outcome::OutOfRoom, _) => "not exhausted".to_owned(),
    };
    let seconds = report.elapsed.as_secs_f64();
    format!("{:>11} {:>12} {:>6} {seconds:>9.2}  {result}", report.states, report.moves, report.depth)
}

fn hunt(arguments: &Arguments) -> Vec<String> {
    let wanted = |twin: &Twin| arguments.twin.is_empty() || arguments.twin.iter().any(|n| n == twin.name);
    let all: Vec<Twin> = twins().into_iter().filter(wanted).collect();
    if all.is_empty() {
        let known: Vec<&str> = twins().iter().map(|twin| twin.name).collect();
        return vec![format!("no such twin; there are {}", known.join(", "))];
    }
    println!("\n{:<26} {:<12} {:>10} {:>6} {:>10}  found", "broken twin", "rule", "states", "moves", "ms");
    let mut faults = Vec::new();
    for twin in &all {
        let report = twin.hunt();
        let verdict = twin.judge(&report);
        let (found, length) = match &report.outcome {
            Outcome::Broken(found) => (found.property.to_string(), found.moves.len()),
            _ => ("NOT FOUND".to_owned(), 0),
        };
        let ms = report.elapsed.as_secs_f64() * 1e3;
        println!("{:<26} {:<12} {:>10} {length:>6} {ms:>10.1}  {found}", twin.name, twin.rule, report.states);
        if arguments.traces {
            println!("    {}", twin.what);
            print_trace(twin, &report);
        }
        faults.extend(verdict.err());
    }
    println!("{} of {} twins found", all.len() - faults.len(), all.len());
    faults
}

fn print_trace(twin: &Twin, report: &Report) {
    if let Outcome::Broken(found) = &report.outcome {
        for line in found.lines(&twin.rules) {
            println!("    {line}");
        }
    }
}
