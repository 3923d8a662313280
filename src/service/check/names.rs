//! Which names Kafka, the file system and SQL take.

use std::ops::Range;

use crate::service::file::{At, Named};
use crate::service::report::Report;

/// Why Kafka would not take `name` as a topic's or a group's, or as a part of one.
fn kafka_fault(name: &str) -> Option<&'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match name {
        "" => Some("it is empty"),
        "." | ".." => Some("Kafka keeps `.` and `..` for itself"),
        _ if name.len() > 249 => Some("it is longer than 249 characters"),
        _ if !name.chars().all(allowed) => Some("expected letters, digits, `.`, `_` and `-`"),
        _ => None,
    }
}

/// A topic's name, if Kafka takes it.
pub(super) fn topic(name: &Option<At<String>>, report: &mut Report) -> Option<String> {
    let name = name.as_ref()?;
    if let Some(fault) = kafka_fault(&name.value) {
        report.error(name.at.clone(), format!("`{}` cannot be the name of a topic", name.value)).label(fault);
        return None;
    }
    Some(name.value.clone())
}

/// The application's id: consumer group, and the beginning of topics' names.
pub(super) fn app_id(name: &Option<At<String>>, report: &mut Report) -> Option<String> {
    let name = name.as_ref()?;
    // Names made of it (`<app_id>-commits`) must be topics' names too.
    let fault = if name.value.len() > 200 {
        Some("it is longer than 200 characters")
    } else {
        kafka_fault(&name.value)
    };
    if let Some(fault) = fault {
        report
            .error(name.at.clone(), format!("`{}` cannot be an application's id", name.value))
            .label(fault)
            .help("it is the consumer group, and topics are named after it");
        return None;
    }
    Some(name.value.clone())
}

/// Whether `name` can be used in SQL without quotes, which is how the others refer to it; reports it if not.
pub(super) fn sql_name(what: &str, name: &str, at: &Range<usize>, report: &mut Report) -> bool {
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let fine = begins && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !fine && !name.is_empty() {
        report
            .error(at.clone(), format!("`{name}` cannot be the name of a {what}"))
            .label("expected small letters, digits and `_`, not beginning with a digit")
            .help("SQL reads names without quotes as small letters");
    }
    fine
}

/// Reports the names of columns that are given twice or empty; mappings cannot have them, lists can.
pub(super) fn not_empty<T>(what: &str, names: &Option<At<Named<T>>>, report: &mut Report) {
    if let Some(names) = names
        && names.value.0.is_empty()
    {
        report.error(names.at.clone(), format!("there must be at least one {what}"));
    }
}
