//! Small typed readers over the located tree. Each says what it expected and goes on with the next, so that one run
//! finds everything: a mapping's fields are `None` when they are absent *or* wrong, and what is wrong was reported.

use std::ops::Range;

use super::schema::Definitions;
use super::yaml::{Key, Node, Value};
use crate::service::report::{Report, list, nearest};

/// A value, the bytes where it stands, and those of the key that names it.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) at: Range<usize>,
    pub(crate) key_at: Range<usize>,
}

impl<T> At<T> {
    pub(crate) fn as_ref(this: &Option<Self>) -> Option<&T> {
        this.as_ref().map(|this| &this.value)
    }
}

impl<T: Copy> At<T> {
    pub(crate) fn get(this: &Option<Self>) -> Option<T> {
        this.as_ref().map(|this| this.value)
    }
}

/// What can be read from a node.
pub(crate) trait Read: Sized {
    /// The value, or nothing after `report` was told why.
    fn read(node: &Node, report: &mut Report) -> Option<Self>;

    /// The same with its place.
    fn read_at(node: &Node, report: &mut Report) -> Option<At<Self>> {
        let (at, key_at) = (node.at.clone(), node.key_at.clone());
        Self::read(node, report).map(|value| At { value, at, key_at })
    }

    /// What editors are told of it: JSON Schema.
    fn schema(definitions: &mut Definitions) -> serde_json::Value;
}

/// Reports that the node is not what it has to be; examples after `, such as` go beside the caret.
pub(crate) fn expected<T>(what: &str, node: &Node, report: &mut Report) -> Option<T> {
    let (short, examples) = what.split_once(", such as ").unzip();
    let message = format!("{} must be {}, not {}", node.name, short.unwrap_or(what), node.describe());
    let finding = report.error(node.at.clone(), message);
    if let Some(examples) = examples {
        finding.label(format!("such as {examples}"));
    }
    None
}

/// The entries of a mapping with fixed keys, and which keys there are.
pub(crate) struct Keys<'a> {
    node: &'a Node,
    entries: &'a [(Key, Node)],
    known: Vec<&'static str>,
    missing: Vec<&'static str>,
}

impl<'a> Keys<'a> {
    pub(crate) fn of(node: &'a Node, report: &mut Report) -> Option<Self> {
        match &node.value {
            Value::Mapping(entries) => Some(Self { node, entries, known: Vec::new(), missing: Vec::new() }),
            _ => expected("a mapping", node, report),
        }
    }

    fn node(&mut self, name: &'static str) -> Option<&'a Node> {
        self.known.push(name);
        self.entries.iter().find(|(key, _)| key.text == name).map(|(_, node)| node)
    }

    /// The value of a key that may be absent.
    pub(crate) fn optional<T: Read>(&mut self, name: &'static str, report: &mut Report) -> Option<At<T>> {
        let node = self.node(name)?;
        if matches!(node.value, Value::Nothing) { None } else { T::read_at(node, report) }
    }

    /// The value of a key that must be there.
    pub(crate) fn required<T: Read>(&mut self, name: &'static str, report: &mut Report) -> Option<At<T>> {
        let found = self.node(name);
        if found.is_none() {
            self.missing.push(name);
        }
        T::read_at(found?, report)
    }

    /// Reports the required keys that are missing, and those that nobody asked for.
    pub(crate) fn finish(mut self, report: &mut Report) {
        for (key, _) in self.entries {
            // A key that is no word was reported when the tree was read.
            if key.text.is_empty() || self.known.contains(&key.text.as_str()) {
                continue;
            }
            if key.text == "<<" {
                self.missing.clear();
                report
                    .error(key.at.clone(), "`<<` is no part of YAML any more")
                    .help("write the keys out, or `*name` for a whole value");
                continue;
            }
            // One slip is one error: the key that was meant is not missing besides.
            let near = nearest(&key.text, self.known.iter().copied());
            self.missing.retain(|missing| near != Some(missing));
            let mut known = self.known.clone();
            known.sort_unstable();
            report
                .error(key.at.clone(), format!("{} has no key `{}`", self.node.name, key.text))
                .label("unknown key")
                .nearest(&key.text, self.known.iter().copied())
                .help(format!("keys: {}", list(known)));
        }
        if !self.missing.is_empty() {
            let keys = if self.missing.len() == 1 { "key" } else { "keys" };
            let message = format!("{} needs the {keys} {}", self.node.name, list(self.missing));
            report.error(self.node.key_at.clone(), message);
        }
    }
}

/// A list of values; those that cannot be read are left out after they were reported.
impl<T: Read> Read for Vec<At<T>> {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        match &node.value {
            Value::List(items) => Some(items.iter().filter_map(|item| T::read_at(item, report)).collect()),
            Value::Scalar(scalar) => {
                let text = scalar.text.value().to_owned();
                expected::<()>("a list", node, report);
                report.help_last(format!("write `[{text}]`"));
                None
            }
            Value::Mapping(_) => {
                expected::<()>("a list", node, report);
                report.help_last("begin each item with `- `");
                None
            }
            Value::Nothing => expected("a list", node, report),
        }
    }

    fn schema(definitions: &mut Definitions) -> serde_json::Value {
        serde_json::json!({ "type": "array", "items": T::schema(definitions) })
    }
}

/// What a file's author has named: names in the order of the file, each with its value, if that could be read.
#[derive(Debug)]
pub(crate) struct Named<T>(pub(crate) Vec<Entry<T>>);

/// A name and its value.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    pub(crate) name: String,
    pub(crate) at: Range<usize>,
    pub(crate) value: Option<At<T>>,
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Read> Read for Named<T> {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let Value::Mapping(entries) = &node.value else {
            return expected("a mapping of names", node, report);
        };
        let read = |(key, node): &(Key, Node)| Entry {
            name: key.text.clone(),
            at: key.at.clone(),
            value: T::read_at(node, report),
        };
        Some(Self(entries.iter().map(read).collect()))
    }

    fn schema(definitions: &mut Definitions) -> serde_json::Value {
        serde_json::json!({ "type": "object", "additionalProperties": T::schema(definitions) })
    }
}

/// The text of an attribute if it is a comment, for the JSON schema.
macro_rules! comment {
    (doc = $text:literal) => {
        $text
    };
    ($($other:tt)*) => {
        ""
    };
}

/// Defines a mapping with fixed keys together with its reader and its schema: each field says whether it is `required` or
/// `optional`, and its comment is what editors show. A key that is a word of Rust is written `r#where`.
macro_rules! mapping {
    ($(#[$($doc:tt)*])* $Name:ident { $($(#[$($field_doc:tt)*])* $need:ident $field:ident: $Type:ty,)* }) => {
        $(#[$($doc)*])*
        #[derive(Debug)]
        pub(crate) struct $Name {
            $($(#[$($field_doc)*])* pub(crate) $field: Option<$crate::service::file::read::At<$Type>>,)*
        }

        impl $crate::service::file::read::Read for $Name {
            fn read(
                node: &$crate::service::file::yaml::Node,
                report: &mut $crate::service::report::Report,
            ) -> Option<Self> {
                let mut keys = $crate::service::file::read::Keys::of(node, report)?;
                let read = Self {
                    $($field: keys.$need($crate::service::file::read::key(stringify!($field)), report),)*
                };
                keys.finish(report);
                Some(read)
            }

            fn schema(definitions: &mut $crate::service::file::schema::Definitions) -> serde_json::Value {
                use $crate::service::file::read::comment;
                definitions.mapping(stringify!($Name), &[$(comment!($($doc)*)),*], |definitions| vec![
                    $($crate::service::file::schema::Property {
                        name: $crate::service::file::read::key(stringify!($field)),
                        comment: &[$(comment!($($field_doc)*)),*],
                        required: stringify!($need) == "required",
                        schema: <$Type as $crate::service::file::read::Read>::schema(definitions),
                    },)*
                ])
            }
        }
    };
}

/// Defines a choice between words together with its reader and its schema.
macro_rules! choice {
    ($(#[$($doc:tt)*])* $Name:ident { $($(#[$($word_doc:tt)*])* $word:literal => $Variant:ident,)* }) => {
        $(#[$($doc)*])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $Name {
            $($(#[$($word_doc)*])* $Variant,)*
        }

        impl $crate::service::file::read::Read for $Name {
            fn read(
                node: &$crate::service::file::yaml::Node,
                report: &mut $crate::service::report::Report,
            ) -> Option<Self> {
                let word = $crate::service::file::values::word(node, &[$($word),*], report)?;
                match word {
                    $($word => Some(Self::$Variant),)*
                    _ => None,
                }
            }

            fn schema(_: &mut $crate::service::file::schema::Definitions) -> serde_json::Value {
                use $crate::service::file::read::comment;
                $crate::service::file::schema::choice(&[$(($word, &[$(comment!($($word_doc)*)),*]),)*])
            }
        }
    };
}

pub(super) use {choice, comment, mapping};

/// A key as it is written in a file, from the name of its field.
pub(super) fn key(field: &'static str) -> &'static str {
    field.strip_prefix("r#").unwrap_or(field)
}
