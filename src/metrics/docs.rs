//! docs/metrics.md is made of what is registered, and dashboards and alerts may use nothing else.

use std::collections::BTreeSet;
use std::path::Path;

use prometheus::Registry;

use super::registrar::{Registered, Registrar};
use super::{Metrics, names};
use crate::StreamingContext;

const BEGIN: &str = "<!-- made of the code by `TIDEMILL_WRITE_DOCS=1 cargo test --lib metrics` -->\n";
const END: &str = "<!-- end -->\n";

fn registered() -> Vec<Registered> {
    let registry = Registry::new();
    let ssc = StreamingContext::builder("docs").build().expect("a context");
    let registrar = Registrar::new(&registry, "docs");
    Metrics::registered(&registrar, &ssc).expect("all names are right");
    registrar.into_registered()
}

fn table() -> String {
    let mut text = String::from("| Name | Type | Labels | Help |\n|---|---|---|---|\n");
    for Registered { name, help, kind, labels } in registered() {
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = labels.join(", ");
        let labels = if labels.is_empty() { String::new() } else { format!(" {labels}") };
        text += &format!("| `{name}` | {kind} |{labels} | {help} |\n");
    }
    let buckets: Vec<_> = names::SECONDS.iter().map(ToString::to_string).collect();
    text + &format!("\nHistograms have these buckets, in seconds: {}.\n", buckets.join(", "))
}

#[test]
fn the_documentation_is_what_is_registered() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let text = std::fs::read_to_string(&path).expect("it is shipped");
    let (before, rest) = text.split_once(BEGIN).expect("where the table begins");
    let (_, after) = rest.split_once(END).expect("where it ends");
    let fresh = format!("{before}{BEGIN}{}{END}{after}", table());
    if std::env::var_os("TIDEMILL_WRITE_DOCS").is_some() {
        std::fs::write(&path, &fresh).expect("it can be written");
    }
    assert!(
        text == fresh || std::env::var_os("TIDEMILL_WRITE_DOCS").is_some(),
        "docs/metrics.md is not fresh: {BEGIN}"
    );
}

#[test]
fn names_follow_prometheus() {
    let mut seen = BTreeSet::new();
    for Registered { name, kind, help, .. } in registered() {
        assert!(seen.insert(name), "{name} twice");
        assert!(name.starts_with("tidemill_") && help.ends_with('.'), "{name}: {help}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
    }
}

/// Every `tidemill_…` in dashboards and alerting rules.
fn used(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("it is shipped").flatten() {
        let path = entry.path();
        if path.is_dir() {
            used(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "json" || kind == "yml") {
            let text = std::fs::read_to_string(&path).expect("text");
            let names = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            found.extend(names.filter(|name| name.starts_with("tidemill_")).map(str::to_owned));
        }
    }
}

#[test]
fn dashboards_and_alerts_use_what_there_is() {
    let mut found = BTreeSet::new();
    used(&Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana"), &mut found);
    let mut known: BTreeSet<String> = BTreeSet::new();
    for Registered { name, kind, .. } in registered() {
        let parts: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        known.extend(parts.iter().map(|part| format!("{name}{part}")));
    }
    let unknown: Vec<_> = found.difference(&known).collect();
    assert!(unknown.is_empty(), "nothing is called {unknown:?}");
    assert!(found.len() > 20, "{found:?}");
}
