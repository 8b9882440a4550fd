//! `cairn config`: what is in force, where it comes from, and whether it holds together.

use clap::Subcommand;
use serde_json::{Value, json};

use crate::cli::Common;
use crate::cli::output::{pairs, table};
use crate::config::{Config, KEYS, Setting};
use crate::exit::Exit;

/// `cairn config ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Print every key with the value in force
    Show {
        /// Say where each value comes from: default, file, environment
        #[arg(long)]
        origin: bool,
    },
    /// Check the configuration without starting anything
    Check,
}

pub(crate) fn run(common: &Common, verb: &ConfigVerb) -> anyhow::Result<Exit> {
    let home = common.home();
    let loaded = Config::load(&home, &[])?;
    match verb {
        ConfigVerb::Show { origin } => common.output().show(
            &show(&loaded.settings, *origin),
            &json!({ "settings": loaded.settings, "warnings": loaded.warnings }),
        ),
        ConfigVerb::Check => {
            let mut text = format!("{} is fine: {} keys", home.join("config.toml").display(), KEYS.len());
            for warning in &loaded.warnings {
                text.push_str(&format!("\nwarning: {warning}"));
            }
            common.output().show(&text, &json!({ "valid": true, "warnings": loaded.warnings }));
        }
    }
    Ok(Exit::Yes)
}

fn show(settings: &[Setting], origin: bool) -> String {
    if !origin {
        return pairs(settings.iter().map(|setting| (setting.key, readable(&setting.value))));
    }
    let row =
        |setting: &Setting| vec![setting.key.to_owned(), readable(&setting.value), setting.origin.clone()];
    table(&["key", "value", "from"], settings.iter().map(row).collect())
}

fn readable(value: &Value) -> String {
    value.to_string()
}
