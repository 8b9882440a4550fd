//! Round trips between regions, from a CSV: a header with the regions' names, then one row for each.

use std::path::Path;

use crate::units::Micros;

/// The shipped table.
const CLOUD: &str = include_str!("../data/cloud-regions.csv");
/// Regions of one table, at most.
const REGIONS_MAX: usize = 256;

/// A table of round trips.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    pub(crate) names: Vec<String>,
    round_trip: Vec<Vec<Micros>>,
}

impl Matrix {
    /// `cloud` for the shipped table, else the CSV file of this path.
    pub(crate) fn named(name: &str) -> Result<Self, String> {
        if name == "cloud" {
            return Self::parse(CLOUD, "the shipped table");
        }
        let text = std::fs::read_to_string(Path::new(name)).map_err(|error| {
            format!("net.matrix: cannot read {name}: {error}; expected `cloud` or a CSV file")
        })?;
        Self::parse(&text, name)
    }

    fn parse(text: &str, place: &str) -> Result<Self, String> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let header = lines.next().ok_or_else(|| format!("{place}: empty; expected a row of region names"))?;
        let names: Vec<String> = header.split(',').skip(1).map(|name| name.trim().to_owned()).collect();
        if names.is_empty() || names.len() > REGIONS_MAX {
            return Err(format!("{place}: {} regions; expected 1 to {REGIONS_MAX}", names.len()));
        }
        let mut round_trip = Vec::new();
        for (row, name) in lines.zip(&names) {
            let mut cells = row.split(',').map(str::trim);
            if cells.next() != Some(name.as_str()) {
                return Err(format!("{place}: rows and columns differ in order at {name}"));
            }
            let times: Result<Vec<Micros>, String> = cells.map(|cell| parse_ms(cell, place)).collect();
            let times = times?;
            if times.len() != names.len() {
                return Err(format!("{place}: {name} has {} cells; expected {}", times.len(), names.len()));
            }
            round_trip.push(times);
        }
        if round_trip.len() != names.len() {
            return Err(format!("{place}: {} rows; expected {}", round_trip.len(), names.len()));
        }
        Ok(Self { names, round_trip })
    }

    /// Half a round trip.
    pub(crate) fn one_way(&self, from: usize, to: usize) -> Micros {
        Micros(self.round_trip[from][to].0 / 2)
    }

    /// The region of each of `nodes` nodes: the named ones in turn, or all in turn.
    pub(crate) fn places(&self, named: &[String], nodes: usize) -> Result<Vec<usize>, String> {
        let all: Result<Vec<usize>, String> = named
            .iter()
            .map(|name| {
                self.names.iter().position(|known| known == name).ok_or_else(|| {
                    format!("net.regions: no `{name}` in the matrix; it has {}", self.names.join(", "))
                })
            })
            .collect();
        let mut all = all?;
        if all.is_empty() {
            all = (0..self.names.len()).collect();
        }
        Ok(all.into_iter().cycle().take(nodes).collect())
    }
}

fn parse_ms(cell: &str, place: &str) -> Result<Micros, String> {
    let ms: f64 =
        cell.parse().map_err(|_| format!("{place}: `{cell}` is no number; expected a round trip in ms"))?;
    if !(0.0..=60_000.0).contains(&ms) {
        return Err(format!("{place}: {ms} ms; expected 0 to 60000"));
    }
    Ok(Micros((ms * 1_000.0).round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_table_is_whole_and_says_where_it_comes_from() {
        let matrix = Matrix::named("cloud").unwrap();
        assert!(matrix.names.len() >= 10);
        assert!(CLOUD.starts_with("# Round trips") && CLOUD.contains("Source"));
        for from in 0..matrix.names.len() {
            for to in 0..matrix.names.len() {
                let (there, back) = (matrix.one_way(from, to).0, matrix.one_way(to, from).0);
                assert!(there > 0 && there.abs_diff(back) * 5 <= there.max(back), "{from} {to}");
            }
        }
    }

    #[test]
    fn a_table_that_is_no_table_is_refused_with_what_was_expected() {
        for (text, why) in [
            ("", "region names"),
            ("x,a,b\na,1,2\n", "1 rows; expected 2"),
            ("x,a,b\na,1\nb,1,2\n", "1 cells; expected 2"),
            ("x,a,b\nb,1,2\na,1,2\n", "differ in order"),
            ("x,a\na,soon\n", "no number"),
        ] {
            let got = Matrix::parse(text, "t").unwrap_err();
            assert!(got.contains(why), "{got}");
        }
        let cloud = Matrix::named("cloud").unwrap();
        assert!(cloud.places(&["atlantis".into()], 3).unwrap_err().contains("atlantis"));
        assert!(Matrix::named("/no/such.csv").unwrap_err().contains("cannot read"));
    }
}
