//! Which topics a source reads: those of a list, or those whose names match a pattern.

use regex::Regex;

use crate::error::{Error, Result};

/// Kafka's own topics begin so.
const INTERNAL: &str = "__";

/// The topics of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Topics {
    List(Vec<String>),
    /// All whose whole name this regular expression matches.
    Pattern(String),
}

impl Topics {
    /// What names the source's position, unless the program does.
    pub fn name(&self) -> String {
        match self {
            Self::List(topics) => {
                let mut topics = topics.clone();
                topics.sort();
                topics.join(",")
            }
            Self::Pattern(pattern) => pattern.clone(),
        }
    }

    /// # Errors
    /// If there is no topic, or the pattern is no regular expression.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::List(topics) if topics.is_empty() => {
                Err(Error::config("a Kafka source needs at least one topic"))
            }
            Self::List(_) => Ok(()),
            Self::Pattern(pattern) => whole(pattern).map(|_| ()),
        }
    }

    /// Whether a topic of this name is read.
    #[cfg_attr(not(feature = "service"), allow(dead_code, reason = "pipeline files are checked for loops"))]
    pub fn contains(&self, topic: &str) -> bool {
        match self {
            Self::List(topics) => topics.iter().any(|own| own == topic),
            Self::Pattern(pattern) => {
                !topic.starts_with(INTERNAL) && whole(pattern).is_ok_and(|pattern| pattern.is_match(topic))
            }
        }
    }
}

/// `pattern` for whole names.
fn whole(pattern: &str) -> Result<Regex> {
    Regex::new(&format!("^(?:{pattern})$")).map_err(|error| {
        Error::config(format!("the topics' pattern `{pattern}` is no regular expression: {error}"))
    })
}

/// The names among `all` that `pattern` matches, in their order.
pub(super) fn matching<'a>(pattern: &str, all: impl Iterator<Item = &'a str>) -> Result<Vec<&'a str>> {
    let pattern = whole(pattern)?;
    let mut found: Vec<_> =
        all.filter(|name| !name.starts_with(INTERNAL) && pattern.is_match(name)).collect();
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_names_and_none_of_kafkas_own() {
        let all = ["logs.web", "logs", "old-logs.web", "logs.app", "__consumer_offsets", "logs.web.dlq"];
        assert_eq!(matching(r"logs\.[a-z]+", all.into_iter()).unwrap(), ["logs.app", "logs.web"]);
        assert_eq!(matching("logs|old.*", all.into_iter()).unwrap(), ["logs", "old-logs.web"]);
        assert_eq!(matching(".*", all.into_iter()).unwrap().len(), 5);
        let pattern = Topics::Pattern(".*offsets".into());
        assert!(pattern.contains("my-offsets") && !pattern.contains("__consumer_offsets"));
        assert!(Topics::List(vec!["a.b".into()]).contains("a.b"));
        assert!(!Topics::List(vec!["a.b".into()]).contains("axb"));
    }

    #[test]
    fn what_is_no_pattern_is_named() {
        let error = Topics::Pattern("logs(".into()).check().unwrap_err();
        assert!(error.to_string().contains("`logs(`"), "{error}");
        assert!(Topics::List(Vec::new()).check().is_err());
    }
}
