use super::*;

#[test]
fn an_empty_manifest_is_four_quiet_validators() {
    let manifest = Manifest::parse("", "test").unwrap();
    assert_eq!((manifest.net.n, manifest.perturb.len()), (4, 0));
    assert_eq!(Manifest::parse(&manifest.to_toml(), "again").unwrap(), manifest);
}
