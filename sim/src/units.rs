//! Quantities as a manifest writes them: `"20ms"`, `"10ms..80ms"`, `"100Mbit"`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest time a manifest may name: a year. Keeps every sum of times in range.
const MICROS_MAX: u64 = 365 * 24 * 3_600 * 1_000_000;

/// A length of virtual time, or a moment of it counted from the start, microseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Micros(pub u64);

impl Micros {
    /// This many milliseconds.
    pub const fn ms(ms: u64) -> Self {
        Self(ms * 1_000)
    }

    /// This many seconds.
    pub const fn secs(secs: u64) -> Self {
        Self(secs * 1_000_000)
    }

    /// Whole milliseconds, rounded down.
    pub const fn as_ms(self) -> u64 {
        self.0 / 1_000
    }

    /// Seconds.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl From<Micros> for Duration {
    fn from(time: Micros) -> Self {
        Self::from_micros(time.0)
    }
}

impl FromStr for Micros {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || format!("`{text}` is no length of time; expected one like 50us, 20ms, 5s, 2min or 1h");
        let text = text.trim();
        let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let number: f64 = number.parse().map_err(|_| expected())?;
        let scale = match unit.trim() {
            "us" => 1.0,
            "ms" => 1e3,
            "s" => 1e6,
            "min" | "m" => 60e6,
            "h" => 3_600e6,
            "" if number == 0.0 => 1.0,
            _ => return Err(expected()),
        };
        let micros = number * scale;
        if !(0.0..=MICROS_MAX as f64).contains(&micros) {
            return Err(format!("`{text}` is too long; expected at most a year"));
        }
        Ok(Self(micros.round() as u64))
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0s"),
            us if us.is_multiple_of(1_000_000) => write!(f, "{}s", us / 1_000_000),
            us if us.is_multiple_of(1_000) => write!(f, "{}ms", us / 1_000),
            us => write!(f, "{us}us"),
        }
    }
}

/// A time drawn evenly between two ends, both included.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Between {
    /// The shortest.
    pub low: Micros,
    /// The longest.
    pub high: Micros,
}

impl Between {
    /// Always this long.
    pub const fn exactly(time: Micros) -> Self {
        Self { low: time, high: time }
    }

    /// Between these two.
    pub const fn of(low: Micros, high: Micros) -> Self {
        Self { low, high }
    }

    /// From the shortest to the longest.
    pub const fn span(self) -> Micros {
        Micros(self.high.0.saturating_sub(self.low.0))
    }
}

impl FromStr for Between {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once("..") {
            None => text.parse().map(Self::exactly),
            Some((low, high)) => {
                let (low, high): (Micros, Micros) = (low.parse()?, high.parse()?);
                if low > high {
                    return Err(format!("`{text}` ends before it begins; expected the shorter time first"));
                }
                Ok(Self { low, high })
            }
        }
    }
}

impl fmt::Display for Between {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.low == self.high {
            write!(f, "{}", self.low)
        } else {
            write!(f, "{}..{}", self.low, self.high)
        }
    }
}

/// Bits per second of a node's link, each way; `None` is unlimited.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Bandwidth(pub Option<u64>);

impl Bandwidth {
    /// Whether bytes take any time.
    pub const fn is_limited(self) -> bool {
        self.0.is_some()
    }

    /// How long these bytes keep the link busy.
    pub fn time_of(self, bytes: u64) -> Micros {
        match self.0 {
            None => Micros(0),
            Some(bits) => {
                let micros = u128::from(bytes) * 8 * 1_000_000 / u128::from(bits.max(1));
                Micros(u64::try_from(micros).unwrap_or(MICROS_MAX).min(MICROS_MAX))
            }
        }
    }
}

impl FromStr for Bandwidth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("`{text}` is no bandwidth; expected one like 100Mbit, 1Gbit or unlimited");
        let text = text.trim();
        if text == "unlimited" {
            return Ok(Self(None));
        }
        let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let number: f64 = number.parse().map_err(|_| expected())?;
        let scale = match unit.trim() {
            "bit" => 1.0,
            "kbit" => 1e3,
            "Mbit" => 1e6,
            "Gbit" => 1e9,
            _ => return Err(expected()),
        };
        let bits = number * scale;
        if !(1.0..=1e15).contains(&bits) {
            return Err(expected());
        }
        Ok(Self(Some(bits as u64)))
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("unlimited"),
            Some(bits) if bits.is_multiple_of(1_000_000_000) => write!(f, "{}Gbit", bits / 1_000_000_000),
            Some(bits) if bits.is_multiple_of(1_000_000) => write!(f, "{}Mbit", bits / 1_000_000),
            Some(bits) if bits.is_multiple_of(1_000) => write!(f, "{}kbit", bits / 1_000),
            Some(bits) => write!(f, "{bits}bit"),
        }
    }
}

macro_rules! written_as_text {
    ($($name:ty),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    )*};
}

written_as_text!(Micros, Between, Bandwidth);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["0s", "50us", "20ms", "1500us", "5s", "7200s"] {
            assert_eq!(text.parse::<Micros>().unwrap().to_string(), text);
        }
        assert_eq!("2min".parse(), Ok(Micros::secs(120)));
        assert_eq!("0.5s".parse(), Ok(Micros::ms(500)));
        for text in ["20ms", "10ms..80ms"] {
            assert_eq!(text.parse::<Between>().unwrap().to_string(), text);
        }
        for text in ["unlimited", "100Mbit", "1Gbit", "64kbit"] {
            assert_eq!(text.parse::<Bandwidth>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused_with_what_was_expected() {
        for text in ["", "5", "ms", "-3s", "5 parsecs", "999999h"] {
            let why = text.parse::<Micros>().unwrap_err();
            assert!(why.contains("expected"), "{why}");
        }
        assert!("80ms..10ms".parse::<Between>().unwrap_err().contains("shorter time first"));
        assert!("fast".parse::<Bandwidth>().unwrap_err().contains("100Mbit"));
    }

    #[test]
    fn a_megabyte_takes_eighty_milliseconds_at_a_hundred_megabit() {
        let link: Bandwidth = "100Mbit".parse().unwrap();
        assert_eq!(link.time_of(1_000_000), Micros::ms(80));
        assert_eq!(Bandwidth(None).time_of(u64::MAX), Micros(0));
    }
}
