use super::*;

use figment::value::Value;

fn load(text: &str, environment: &[(&str, &str)], flags: &[Override]) -> Result<Loaded, ConfigFault> {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("config.toml"), text).unwrap();
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load_with(home.path(), environment, flags)
}

fn refusal(text: &str, environment: &[(&str, &str)]) -> String {
    load(text, environment, &[]).expect_err("must be refused").to_string()
}

fn origin<'a>(loaded: &'a Loaded, key: &str) -> &'a str {
    &loaded.settings.iter().find(|setting| setting.key == key).unwrap().origin
}

#[test]
fn an_empty_file_gives_the_defaults() {
    let loaded = load("", &[], &[]).unwrap();
    assert_eq!(loaded.config.rpc.listen, "127.0.0.1:26657".parse().unwrap());
    assert_eq!(loaded.config.rpc.metrics_listen, Some("127.0.0.1:26660".parse().unwrap()));
    assert_eq!(loaded.config.state.cache_mib, 8);
    assert_eq!(loaded.config.log.format, LogFormat::Pretty);
    assert!(loaded.config.keys.validator.as_ref().unwrap().ends_with("keys/validator.json"));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert!(loaded.settings.iter().all(|setting| setting.origin == "default"));
}

#[test]
fn the_template_is_the_defaults_and_names_every_key() {
    let text = template();
    let loaded = load(&text, &[], &[]).unwrap();
    let defaults = load("", &[], &[]).unwrap();
    for (written, default) in loaded.settings.iter().zip(&defaults.settings) {
        assert_eq!(written.value, default.value, "{}", written.key);
        assert!(written.origin.ends_with("config.toml"), "{} comes from {}", written.key, written.origin);
    }
}

#[test]
fn the_key_table_lists_exactly_what_the_file_may_hold() {
    let raw = serde_json::to_value(Raw::default()).unwrap();
    let mut held: Vec<String> = Vec::new();
    for (section, entries) in raw.as_object().unwrap() {
        held.extend(entries.as_object().unwrap().keys().map(|name| format!("{section}.{name}")));
    }
    let mut known: Vec<String> = KEYS.iter().map(|key| key.name.to_owned()).collect();
    held.sort();
    known.sort();
    assert_eq!(held, known);
}

#[test]
fn the_operators_table_lists_every_key_with_its_default() {
    let page = include_str!("../../docs/OPERATIONS.md");
    // In a TOML file a text has quotes; in the table it has none, unless it is empty.
    let written = |default: String| match default.as_str() {
        "\"\"" => default,
        _ => default.trim_matches('"').to_owned(),
    };
    let expected: Vec<String> = KEYS
        .iter()
        .map(|key| format!("| `{}` | `{}` |", key.name, written(layers::default_toml(key.name))))
        .collect();
    let missing: Vec<_> = expected.iter().filter(|row| !page.contains(row.as_str())).collect();
    assert!(missing.is_empty(), "docs/OPERATIONS.md lacks {missing:#?}");
}

#[test]
fn a_flag_beats_a_variable_beats_the_file_beats_the_default() {
    let file =
        "[rpc]\nlisten = \"127.0.0.1:1\"\ngrpc_listen = \"127.0.0.1:2\"\nmetrics_listen = \"127.0.0.1:3\"\n";
    let environment = [("CAIRN_RPC__LISTEN", "127.0.0.1:11"), ("CAIRN_RPC__GRPC_LISTEN", "127.0.0.1:12")];
    let flag =
        Override { key: "rpc.listen", flag: "--rpc-listen", value: Value::from("127.0.0.1:21".to_owned()) };
    let loaded = load(file, &environment, &[flag]).unwrap();
    assert_eq!(loaded.config.rpc.listen.port(), 21);
    assert_eq!(loaded.config.rpc.grpc_listen.unwrap().port(), 12);
    assert_eq!(loaded.config.rpc.metrics_listen.unwrap().port(), 3);
    assert_eq!(origin(&loaded, "rpc.listen"), "--rpc-listen");
    assert_eq!(origin(&loaded, "rpc.grpc_listen"), "$CAIRN_RPC__GRPC_LISTEN");
    assert!(origin(&loaded, "rpc.metrics_listen").ends_with("config.toml"));
    assert_eq!(origin(&loaded, "state.cache_mib"), "default");
}

#[test]
fn variables_carry_every_kind_of_value() {
    let environment = [
        ("CAIRN_RPC__METRICS_LISTEN", ""),
        ("CAIRN_P2P__QUIC", "true"),
        ("CAIRN_STATE__CACHE_MIB", "128"),
        ("CAIRN_P2P__BOOTSTRAP", "/ip4/127.0.0.1/tcp/1, /ip4/127.0.0.1/tcp/2"),
        ("CAIRN_P2P__MESH_PEERS", "[\"/ip4/127.0.0.1/tcp/3\"]"),
        ("CAIRN_HOME", "/elsewhere"),
        ("UNRELATED__VARIABLE", "1"),
    ];
    let config = load("", &environment, &[]).unwrap().config;
    assert_eq!(config.rpc.metrics_listen, None);
    assert!(config.p2p.quic);
    assert_eq!(config.state.cache_mib, 128);
    assert_eq!(config.p2p.bootstrap, ["/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/2"]);
    assert_eq!(config.p2p.mesh_peers, ["/ip4/127.0.0.1/tcp/3"]);
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    let said = refusal("[rpc]\nlisten_addr = \"x\"\n", &[]);
    assert!(said.contains("unknown key `rpc.listen_addr`") && said.contains("config.toml"), "{said}");
    let said = refusal("[rpc]\nlisen = \"127.0.0.1:1\"\n", &[]);
    assert!(said.contains("did you mean `rpc.listen`?"), "{said}");
    let said = refusal("[rcp]\nlisten = \"127.0.0.1:1\"\n", &[]);
    assert!(said.contains("did you mean `rpc.listen`?"), "{said}");
    let said = refusal("cache_mib = 3\n", &[]);
    assert!(said.contains("did you mean `state.cache_mib`?"), "{said}");
    let said = refusal("", &[("CAIRN_LOG__LEVLE", "debug")]);
    assert!(said.contains("$CAIRN_LOG__LEVLE") && said.contains("did you mean `log.level`?"), "{said}");
    let said = refusal("[consensus]\n", &[]);
    assert!(said.contains("unknown key `consensus`"), "{said}");
}

#[test]
fn wrong_types_and_syntax_name_the_key_and_the_layer() {
    let said = refusal("[state]\ncache_mib = \"much\"\n", &[]);
    assert!(said.contains("`state.cache_mib`") && said.contains("config.toml"), "{said}");
    let said = refusal("", &[("CAIRN_P2P__QUIC", "perhaps")]);
    assert!(said.contains("`p2p.quic`") && said.contains("$CAIRN_P2P__QUIC"), "{said}");
    let said = refusal("[rpc\n", &[]);
    assert!(said.contains("no valid TOML") && said.contains("line 1"), "{said}");
    let said = refusal("rpc = 3\n", &[]);
    assert!(said.contains("write [rpc]"), "{said}");
}

#[test]
fn values_out_of_range_say_what_was_expected() {
    for (text, expected) in [
        ("[rpc]\nlisten = \"localhost\"\n", "127.0.0.1:26657"),
        ("[rpc]\nlisten = \"\"\n", "127.0.0.1:26657"),
        ("[state]\ncache_mib = 1\n", "4 to 1048576 MiB"),
        ("[snapshots]\nevery_blocks = 9\n", "at least 10 blocks, or 0 for no snapshots"),
        ("[snapshots]\nkeep = 0\n", "1 to 16 snapshots; to have none made, set snapshots.every_blocks = 0"),
        ("[snapshots]\nkeep = 17\n", "1 to 16 snapshots"),
        ("[log]\nlevel = \"loud\"\n", "off, error, warn, info, debug, trace"),
        ("[log]\nformat = \"xml\"\n", "\"pretty\" or \"json\""),
        ("[p2p]\nbootstrap = [\"127.0.0.1:26656\"]\n", "must begin with /"),
        ("[p2p]\nbootstrap = [\"/ip4/300.0.0.1/tcp/1\"]\n", "`300.0.0.1` is no ip4 host"),
        ("[p2p]\nbootstrap = [\"/ip4/127.0.0.1/tcp/99999\"]\n", "`99999` is no port"),
        ("[p2p]\nbootstrap = [\"/ip4/127.0.0.1/tcp/1/ws\"]\n", "only /p2p/<peer id>"),
        ("[p2p]\nbootstrap = [\"/ip4/127.0.0.1/udp/1/quic-v1\"]\n", "p2p.quic = true"),
        ("[p2p]\nquic = true\nmesh_peers = [\"/ip4/127.0.0.1/udp/1/quic-v1\"]\n", "does not speak QUIC"),
    ] {
        let said = refusal(text, &[]);
        assert!(said.contains(expected), "{text:?} gave {said:?}, expected {expected:?} in it");
    }
    let many = ["\"/ip4/127.0.0.1/tcp/1\""; EXTERNAL_MAX + 1].join(",");
    assert!(refusal(&format!("[p2p]\npublic_external = [{many}]\n"), &[]).contains("at most 8"));
}

#[test]
fn good_multiaddresses_pass() {
    for text in [
        "/ip4/127.0.0.1/tcp/26656",
        "/ip6/::1/tcp/1/p2p/12D3KooWExample",
        "/dns/node.example/tcp/26656/p2p/12D3KooWExample",
        "/ip4/10.0.0.1/udp/26656/quic-v1/p2p/12D3KooWExample",
    ] {
        assert_eq!(check_multiaddr(text), Ok(()), "{text}");
    }
}

#[test]
fn two_listeners_may_not_share_an_address() {
    let said = refusal("[p2p]\nmesh_listen = \"127.0.0.1:26657\"\n", &[]);
    assert!(said.contains("rpc.listen") && said.contains("p2p.mesh_listen"), "{said}");
    let free = "[rpc]\nlisten = \"127.0.0.1:0\"\ngrpc_listen = \"127.0.0.1:0\"\n";
    assert!(load(free, &[], &[]).is_ok(), "port 0 means any free port and clashes with nothing");
}

#[test]
fn doubtful_values_are_warned_about() {
    let loaded =
        load("[rpc]\nlisten = \"0.0.0.0:1\"\n[p2p]\npublic_listen = \"0.0.0.0:2\"\n", &[], &[]).unwrap();
    assert_eq!(loaded.warnings.len(), 2, "{:?}", loaded.warnings);
    assert!(loaded.warnings[0].contains("rpc.listen"));
    assert!(loaded.warnings[1].contains("p2p.public_external"));
}

#[test]
fn key_paths_are_relative_to_the_home_and_empty_means_none() {
    let loaded =
        load("[keys]\nvalidator = \"\"\npassphrase_file = \"/run/secrets/pass\"\n", &[], &[]).unwrap();
    assert_eq!(loaded.config.keys.validator, None);
    assert_eq!(loaded.config.keys.passphrase_file, Some(PathBuf::from("/run/secrets/pass")));
}

#[test]
fn a_missing_file_says_to_run_init() {
    let home = tempfile::tempdir().unwrap();
    let said = Config::load_with(home.path(), [], &[]).expect_err("no file").to_string();
    assert!(said.contains("cairn init"), "{said}");
}

#[test]
fn snapshots_are_made_while_the_blocks_above_them_are_kept() {
    let interval = |text: &str| {
        let config = load(text, &[], &[]).unwrap().config;
        config.snapshots.interval(&config.state)
    };
    assert_eq!(interval(""), Some(10_000));
    assert_eq!(interval("[snapshots]\nevery_blocks = 0\n"), None);
    assert_eq!(
        interval("[snapshots]\nevery_blocks = 1000000\n"),
        Some(1_000_000),
        "an archive keeps everything"
    );
    let prover = "[state]\nrole = \"prover\"\nkeep_blocks = 2000\n[snapshots]\nevery_blocks = ";
    assert_eq!(interval(&format!("{prover}1000000\n")), Some(1_000));
    assert_eq!(interval(&format!("{prover}50\n")), Some(50));
    assert_eq!(interval(&format!("{prover}0\n")), None);
}

#[test]
fn an_archive_never_begins_with_a_snapshot() {
    let join = |text: &str| load(text, &[], &[]).unwrap().config.join_blocks();
    assert_eq!(join(""), None);
    assert_eq!(join("[snapshots]\njoin_blocks = 5\n"), None);
    assert_eq!(join("[state]\nrole = \"validator\"\n"), Some(10_000));
    assert_eq!(join("[state]\nrole = \"prover\"\n[snapshots]\njoin_blocks = 5\n"), Some(5));
    assert_eq!(join("[state]\nrole = \"prover\"\n[snapshots]\njoin_blocks = 0\n"), None);
}
