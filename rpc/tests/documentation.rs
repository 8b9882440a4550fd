//! `docs/API.md` is made from the method table. Run with `CAIRN_WRITE_DOCS=1` to write it again.

#[test]
fn the_api_page_is_up_to_date() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/API.md");
    let made = cairn_rpc::docs::markdown();
    if std::env::var_os("CAIRN_WRITE_DOCS").is_some() {
        std::fs::write(&page, &made).expect("docs/ is writable");
    }
    let written = std::fs::read_to_string(&page).unwrap_or_default();
    assert!(written == made, "docs/API.md is not what the table says; run this test with CAIRN_WRITE_DOCS=1");
}

#[test]
fn help_names_every_parameter_and_unknown_methods_have_a_neighbour() {
    let help = cairn_rpc::docs::help("proof_anchor").expect("a method");
    for name in cairn_rpc::docs::parameter_names("proof_anchor").expect("a method") {
        assert!(help.contains(name), "{name}");
    }
    assert!(help.contains("timeout_not_final (-32024)"));
    assert_eq!(cairn_rpc::docs::help("prof_anchor"), None);
    assert_eq!(cairn_rpc::docs::nearest_method("prof_anchor"), Some("proof_anchor"));
    assert!(cairn_rpc::docs::method_list().len() > 38);
}
