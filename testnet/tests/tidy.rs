//! The project's budgets and borders, held by a test: sizes of functions and files, who may depend on
//! what, names, and nothing that speaks of one machine.

mod scanner;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use scanner::functions;
use serde_json::Value;

/// A function fits on a screen.
const FUNCTION_LINES_MAX: usize = 70;
/// A file fits on a desk, its inline tests not counted.
const FILE_LINES_MAX: usize = 600;
/// A file of tests may be a little longer.
const TEST_FILE_LINES_MAX: usize = 700;
/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 8] = ["utils", "util", "common", "manager", "helpers", "helper", "misc", "shared"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

/// Every file of the project that is not built or ignored, relative to the root.
fn project_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open = vec![root()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).expect("the project is readable").filter_map(Result::ok) {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let skipped = matches!(name.as_str(), ".git" | "target" | ".testnet");
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !skipped => open.push(path),
                Ok(kind) if kind.is_file() => files.push(path.strip_prefix(root()).unwrap().to_owned()),
                _ => {}
            }
        }
    }
    // A walk that finds nothing would let every check pass.
    assert!(files.len() > 100, "only {} files below {}", files.len(), root().display());
    files.sort();
    files
}

fn rust_files() -> impl Iterator<Item = (PathBuf, String)> {
    project_files().into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs")).map(|path| {
        let text = fs::read_to_string(root().join(&path)).expect("source is UTF-8");
        (path, text)
    })
}

fn is_test_file(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    stem.ends_with("_tests") || path.components().any(|part| part.as_os_str() == "tests")
}

/// Lines before the inline test module, or all of them.
fn lines_without_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let tests =
        lines.windows(2).position(|pair| pair[0] == "#[cfg(test)]" && pair[1].ends_with("mod tests {"));
    tests.unwrap_or(lines.len())
}

fn long_functions(path: &Path, text: &str) -> Vec<String> {
    let long = functions(text).into_iter().filter(|f| f.lines() > FUNCTION_LINES_MAX);
    long.map(|f| format!("{}:{} `{}` has {} lines", path.display(), f.first_line, f.name, f.lines()))
        .collect()
}

fn report(what: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{what}:\n  {}", faults.join("\n  "));
}

#[test]
fn functions_fit_on_a_screen() {
    let faults: Vec<String> = rust_files().flat_map(|(path, text)| long_functions(&path, &text)).collect();
    report(&format!("functions of more than {FUNCTION_LINES_MAX} lines"), &faults);
}

#[test]
fn files_fit_on_a_desk() {
    let faults: Vec<String> = rust_files()
        .filter_map(|(path, text)| {
            let (lines, max) = match is_test_file(&path) {
                true => (text.lines().count(), TEST_FILE_LINES_MAX),
                false => (lines_without_tests(&text), FILE_LINES_MAX),
            };
            (lines > max).then(|| format!("{} has {lines} lines, at most {max}", path.display()))
        })
        .collect();
    report("files over budget", &faults);
}

#[test]
fn modules_are_named_after_what_they_hold() {
    let faults: Vec<String> = rust_files()
        .filter(|(path, _)| {
            path.iter().any(|part| {
                let stem = Path::new(part).file_stem().unwrap_or_default().to_string_lossy();
                EMPTY_NAMES.contains(&stem.as_ref())
            })
        })
        .map(|(path, _)| path.display().to_string())
        .collect();
    report("names that say nothing", &faults);
}

#[test]
fn nothing_speaks_of_one_machine() {
    // Put together here, so that this file does not hold them.
    let marks = [["/wo", "rk/"], ["/ro", "ot/"], ["/fa", "rm/"]].map(|halves| halves.concat());
    let faults: Vec<String> = project_files()
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name != "Cargo.lock"))
        .filter_map(|path| {
            let text = String::from_utf8(fs::read(root().join(&path)).ok()?).ok()?;
            let line = text.lines().position(|line| marks.iter().any(|mark| names_path(line, mark)))?;
            Some(format!("{}:{}", path.display(), line + 1))
        })
        .collect();
    report("paths of one machine", &faults);
}

/// Whether `line` holds `mark` as the beginning of an absolute path.
fn names_path(line: &str, mark: &str) -> bool {
    line.match_indices(mark).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '}' | '/'))
    })
}

/// A crate's dependencies: (name, kind), kind empty for a normal one.
fn dependencies() -> Vec<(String, Vec<(String, String)>)> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let packages = metadata["packages"].as_array().expect("there are packages");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    packages
        .iter()
        .map(|package| {
            let list = package["dependencies"].as_array().expect("a package lists its dependencies");
            (text(&package["name"]), list.iter().map(|d| (text(&d["name"]), text(&d["kind"]))).collect())
        })
        .collect()
}

#[test]
fn one_crate_per_technology() {
    let owners: [(&str, &[&str]); 12] = [
        ("rocksdb", &["cairn-state"]),
        ("jmt", &["cairn-state"]),
        ("libp2p", &["cairn-p2p"]),
        ("jsonrpsee", &["cairn-rpc"]),
        ("tonic", &["cairn-rpc"]),
        ("axum", &["cairn-rpc"]),
        ("pqcrypto-dilithium", &["cairn-crypto"]),
        ("aws-lc-rs", &["cairn-crypto"]),
        ("rustls-webpki", &["cairn-receipt"]),
        ("x509-cert", &["cairn-receipt"]),
        ("argon2", &["cairn-crypto"]),
        ("figment", &["cairn-node"]),
    ];
    let mut faults = Vec::new();
    for (name, all) in dependencies() {
        for (technology, allowed) in owners {
            // Tests may stand up a server or a database of their own.
            if all.iter().any(|(d, kind)| d == technology && kind != "dev")
                && !allowed.contains(&name.as_str())
            {
                faults.push(format!("{name} names {technology}, which belongs to {}", allowed.join(", ")));
            }
        }
    }
    report("technologies outside their crate", &faults);
}

#[test]
fn crates_form_a_star_around_types() {
    // What each crate of ours may know of the others. Only `node` knows two siblings of the ring.
    let may_know: [(&str, &[&str]); 16] = [
        ("cairn-types", &[]),
        ("cairn-model", &[]),
        ("cairn-bench", &["types", "crypto"]),
        ("cairn-crypto", &["types"]),
        ("cairn-consensus", &["types"]),
        ("cairn-mempool", &["types"]),
        ("cairn-journal", &["types"]),
        ("cairn-catchup", &["types"]),
        ("cairn-state", &["types"]),
        ("cairn-p2p", &["types"]),
        ("cairn-rpc", &["types"]),
        ("cairn-genesis", &["types", "crypto"]),
        ("cairn-receipt", &["types", "crypto"]),
        ("cairn-client", &["types", "crypto", "genesis", "receipt"]),
        (
            "cairn-testnet",
            &[
                "types",
                "crypto",
                "receipt",
                "client",
                "genesis",
                "consensus",
                "mempool",
                "state",
                "catchup",
                "sim",
            ],
        ),
        ("cairn-sim", &["types", "crypto", "consensus", "mempool", "journal", "catchup", "state"]),
    ];
    let mut faults = Vec::new();
    for (name, all) in dependencies() {
        let Some((_, known)) = may_know.iter().find(|(crate_name, _)| *crate_name == name) else {
            if name != "cairn-node" {
                faults.push(format!("{name} is in no line of this table"));
            }
            continue;
        };
        for (dependency, kind) in all.iter().filter(|(d, _)| d.starts_with("cairn-")) {
            let sibling = dependency.trim_start_matches("cairn-");
            if kind != "dev" && !known.contains(&sibling) {
                faults.push(format!("{name} knows {dependency}"));
            }
        }
    }
    report("crates that know too much", &faults);
}

#[test]
fn pure_crates_stay_pure() {
    let normal = |name: &str| -> BTreeSet<String> {
        let all = dependencies();
        let (_, list) = all.iter().find(|(n, _)| n == name).expect("the crate exists");
        list.iter().filter(|(_, kind)| kind != "dev").map(|(d, _)| d.clone()).collect()
    };
    let consensus = normal("cairn-consensus");
    assert_eq!(consensus, BTreeSet::from(["cairn-types".to_owned(), "thiserror".to_owned()]));
    for name in ["cairn-types", "cairn-mempool", "cairn-catchup"] {
        let impure = ["tokio", "serde_json", "serde", "rand", "getrandom", "reqwest", "rustix", "tracing"];
        let found: Vec<String> = normal(name).into_iter().filter(|d| impure.contains(&d.as_str())).collect();
        report(&format!("{name} is pure data, but depends on"), &found);
    }
}

#[test]
fn the_scanner_sees_a_long_function() {
    let body = "    let text = \"} fn not_a_function() {\"; // { fn nor_this() {\n".repeat(70);
    let sample = format!(
        "/* {{ */ impl X {{\n  fn short(a: [u8; 2]) -> char {{ '{{' }}\n  fn long<'a>() {{\n{body}  }}\n}}\n"
    );
    let found = functions(&sample);
    assert_eq!(found.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["short", "long"]);
    assert_eq!(long_functions(Path::new("sample.rs"), &sample), ["sample.rs:3 `long` has 72 lines"]);
    let fits =
        sample.replacen("    let text", "    //  text", 0).replacen(&body, &body[..body.len() / 70 * 68], 1);
    assert_eq!(long_functions(Path::new("sample.rs"), &fits), Vec::<String>::new());
}

#[test]
fn the_scanner_skips_what_is_no_function() {
    let sample = "trait T { fn declared(&self) -> u8; }\ntype F = fn(u8) -> u8;\nconst R: &str = r#\"fn raw() {\"#;\n\
                  fn real<F: Fn(u8)>(f: F, c: char) -> Result<(), [u8; 3]>\nwhere\n    F: Copy,\n{\n    let _ = '\\'';\n}\n";
    let found = functions(sample);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].name.as_str(), found[0].first_line, found[0].lines()), ("real", 4, 6));
}

#[test]
fn a_machine_path_is_seen_only_at_its_beginning() {
    let mark = ["/wo", "rk/"].concat();
    assert!(names_path(&format!("see {mark}x"), &mark));
    assert!(names_path(&mark, &mark));
    assert!(!names_path(&format!("a/home{mark}x"), &mark));
}

#[test]
fn inline_tests_do_not_count_towards_a_file() {
    assert_eq!(lines_without_tests("a\nb\n#[cfg(test)]\nmod tests {\n}\n"), 2);
    assert_eq!(lines_without_tests("a\nb\n"), 2);
}
