//! The names of state across versions of a file: what was renamed, and what may go.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::service::file::{At, Entry, Stream};
use crate::service::report::Report;

/// The names whose state may be dropped; reports names that contradict each other.
pub(super) fn removed(
    streams: &[Entry<Stream>],
    removed: &Option<At<Vec<At<String>>>>,
    report: &mut Report,
) -> Vec<String> {
    let mut uids: BTreeMap<&str, Range<usize>> = BTreeMap::new();
    let mut renamed = Vec::new();
    for entry in streams {
        let operator = entry.value.as_ref().and_then(|stream| stream.value.operator.as_ref());
        let Some((uid, was)) = operator.and_then(|operator| operator.value.state_names()) else { continue };
        let (uid, at) = match uid {
            Some(uid) => (uid.value.as_str(), uid.at.clone()),
            None => (entry.name.as_str(), entry.at.clone()),
        };
        uids.insert(uid, at);
        renamed.extend(was.as_ref().filter(|was| was.value != uid));
    }
    let mut before: BTreeMap<&str, Range<usize>> = BTreeMap::new();
    for was in renamed {
        let name = was.value.as_str();
        if let Some(uid) = uids.get(name) {
            report
                .error(was.at.clone(), format!("the state `{name}` cannot be renamed, since another stream has that name"))
                .also(uid.clone(), "its name")
                .help("one state cannot be both's: give the other stream a `uid` of its own, or take `was` away");
        }
        if let Some(first) = before.insert(name, was.at.clone()) {
            report
                .error(was.at.clone(), format!("two streams were `{name}`"))
                .also(first, "the other")
                .help("one state cannot be both's");
        }
    }
    let removed = removed.as_ref().map_or(&[][..], |removed| &removed.value);
    for name in removed {
        if let Some(uid) = uids.get(name.value.as_str()) {
            report
                .error(name.at.clone(), format!("the state `{}` is in use", name.value))
                .also(uid.clone(), "its name")
                .help("`remove_state` drops the state of streams that are gone; give the stream another `uid` to begin anew");
        } else if let Some(was) = before.get(name.value.as_str()) {
            report
                .error(
                    name.at.clone(),
                    format!("the state `{}` is renamed, and cannot be removed besides", name.value),
                )
                .also(was.clone(), "renamed here");
        }
    }
    removed.iter().map(|name| name.value.clone()).collect()
}
