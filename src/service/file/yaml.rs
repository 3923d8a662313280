//! YAML as a tree whose every node knows its place in the file, so that each reader can point at what it means.

use std::collections::HashMap;
use std::ops::Range;

use granit_parser::{Event, Options, Parser, ScalarStyle, Span, StructureStyle};

use super::origin::Text;
use crate::service::report::Report;

/// More nodes than any pipeline has; aliases of aliases could otherwise fill the memory.
const MOST_NODES: usize = 100_000;

/// A node of the file.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// The bytes of the value.
    pub(crate) at: Range<usize>,
    /// The bytes of the key that names it; its own for what has no key.
    pub(crate) key_at: Range<usize>,
    /// What messages call it: `` `window` ``, ``an item of `topics` ``.
    pub(crate) name: String,
    pub(crate) value: Value,
}

/// What stands at a node.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// A key without a value, `~` or `null`.
    Nothing,
    Scalar(Scalar),
    List(Vec<Node>),
    Mapping(Vec<(Key, Node)>),
}

/// A scalar: its text, and whether quotes make it one that is certainly text.
#[derive(Debug, Clone)]
pub(crate) struct Scalar {
    pub(crate) text: Text,
    pub(crate) quoted: bool,
}

/// A mapping's key.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) at: Range<usize>,
}

impl Node {
    /// What was found here, in a message's words.
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Value::Nothing => "nothing".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Mapping(_) => "a mapping".to_owned(),
            Value::Scalar(scalar) if scalar.quoted => format!("the text `{}`", scalar.text.value()),
            Value::Scalar(scalar) => format!("`{}`", scalar.text.value()),
        }
    }
}

/// Reads the file's one document; what is wrong with its YAML goes to `report`.
pub(crate) fn parse(report: &mut Report) -> Option<Node> {
    let source = report.source().to_owned();
    let mut tree = Tree { anchors: HashMap::new(), open: Vec::new(), root: None, nodes: 0, report };
    let mut documents = 0;
    let mut options = Options::default();
    options.set_emit_comments(false);
    for event in Parser::new_from_str_with_options(&source, options) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                let at = error.marker().byte_offset().unwrap_or_default();
                tree.broken(&source, at, &error.kind().to_string());
                return None;
            }
        };
        let at = bytes(&span);
        match event {
            Event::DocumentStart(..) => {
                documents += 1;
                if documents == 2 {
                    tree.report.error(at, "a pipeline file has one document").help("remove the `---`");
                    break;
                }
            }
            Event::Alias(id) => {
                // Counted before it is copied: aliases of aliases grow without end.
                tree.nodes += tree.anchors.get(&id).map_or(0, count);
                if tree.nodes <= MOST_NODES {
                    let node = tree.anchors.get(&id).cloned();
                    tree.put(node.unwrap_or_else(|| bare(at, Value::Nothing)), 0);
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                // An empty plain scalar has no length, and stands where something is missing.
                let nothing = style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null");
                let value = if nothing && tag.is_none() {
                    Value::Nothing
                } else {
                    let quoted = style != ScalarStyle::Plain;
                    Value::Scalar(Scalar { text: Text::new(&text, &source, at.clone()), quoted })
                };
                tree.put(bare(at, value), anchor);
            }
            Event::SequenceStart(style, anchor, _) => tree.open(at, Value::List(Vec::new()), anchor, style),
            Event::MappingStart(style, anchor, _) => tree.open(at, Value::Mapping(Vec::new()), anchor, style),
            Event::SequenceEnd | Event::MappingEnd => {
                // The parser closes only what it has opened.
                let Open { mut node, anchor, .. } = tree.open.pop().expect("an end follows its start");
                node.at.end = at.end.max(node.at.end);
                tree.put(node, anchor);
            }
            _ => {}
        }
        if tree.nodes > MOST_NODES {
            let at = bytes(&span);
            tree.report
                .error(at, format!("the file has more than {MOST_NODES} values, those of aliases with them"));
            return None;
        }
    }
    tree.root
}

/// The tree as far as it has been read.
struct Tree<'a> {
    anchors: HashMap<usize, Node>,
    /// Collections that are not yet closed.
    open: Vec<Open>,
    root: Option<Node>,
    nodes: usize,
    report: &'a mut Report,
}

/// A collection that is not yet closed.
struct Open {
    node: Node,
    anchor: usize,
    /// Whether it began with a bracket.
    flow: bool,
    /// In a mapping, the key that waits for its value.
    key: Option<Key>,
}

impl Tree<'_> {
    fn open(&mut self, at: Range<usize>, value: Value, anchor: usize, style: StructureStyle) {
        let flow = style == StructureStyle::Flow;
        self.open.push(Open { node: bare(at, value), anchor, flow, key: None });
    }

    /// Reports that the parser could not go on.
    fn broken(&mut self, source: &str, at: usize, why: &str) {
        // Nothing is known yet of what is secret in this file: hide all that could be.
        hide_suspicious_lines(source, self.report);
        let finding = self.report.error(at..at + 1, format!("this is not YAML: {why}"));
        // What is wrong is mostly a bracket that was never closed, and not the place where that shows.
        if let Some(open) = self.open.iter().rfind(|open| open.flow) {
            let start = open.node.at.start;
            finding.also(start..start + 1, "still open");
        }
        if source.get(at.saturating_sub(1)..).is_some_and(|text| text.starts_with("${")) {
            finding.help("`${NAME}` must stand in quotes: \"${NAME}\"");
        }
    }

    /// Puts a finished node where it belongs.
    fn put(&mut self, mut node: Node, anchor: usize) {
        self.nodes += 1;
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(Open { node: parent, key: waiting, .. }) = self.open.last_mut() else {
            node.name = "the file".to_owned();
            self.root = Some(node);
            return;
        };
        match &mut parent.value {
            Value::List(items) => items.push(node),
            Value::Mapping(entries) => match waiting.take() {
                None => *waiting = Some(as_key(node, self.report)),
                Some(key) => {
                    if let Some((first, _)) = entries.iter().find(|(other, _)| other.text == key.text) {
                        self.report
                            .error(key.at.clone(), format!("`{}` is given twice", key.text))
                            .also(first.at.clone(), "first here");
                        return;
                    }
                    name(&mut node, &key);
                    entries.push((key, node));
                }
            },
            _ => {}
        }
    }
}

/// Calls a value by its key.
fn name(node: &mut Node, key: &Key) {
    node.name = format!("`{}`", key.text);
    node.key_at = key.at.clone();
    if matches!(node.value, Value::Nothing) {
        node.at = key.at.clone();
    }
    if let Value::List(items) = &mut node.value {
        for item in items {
            item.name = format!("an item of `{}`", key.text);
        }
    }
}

/// A node as a mapping's key: keys are plain words, whatever they look like.
fn as_key(node: Node, report: &mut Report) -> Key {
    let text = match node.value {
        Value::Scalar(scalar) => scalar.text.value().to_owned(),
        Value::Nothing => "null".to_owned(),
        Value::List(_) | Value::Mapping(_) => {
            let finding = report.error(node.at.clone(), "a key must be a word");
            finding.help("a value such as `${NAME}` must stand in quotes: \"${NAME}\"");
            String::new()
        }
    };
    Key { text, at: node.at }
}

fn bare(at: Range<usize>, value: Value) -> Node {
    Node { key_at: at.clone(), at, name: String::new(), value }
}

/// How many nodes there are in and below this one.
fn count(node: &Node) -> usize {
    match &node.value {
        Value::List(items) => 1 + items.iter().map(count).sum::<usize>(),
        Value::Mapping(entries) => 1 + entries.iter().map(|(_, node)| count(node)).sum::<usize>(),
        Value::Nothing | Value::Scalar(_) => 1,
    }
}

fn bytes(span: &Span) -> Range<usize> {
    // The input is a `str`, for which the parser always knows the bytes.
    span.byte_range().unwrap_or_default()
}

/// Hides the value in each line whose key looks like a secret's.
fn hide_suspicious_lines(source: &str, report: &mut Report) {
    let mut start = 0;
    for line in source.split_inclusive('\n') {
        if super::secret::is_secret(line) {
            let from = line.find(':').map_or(0, |colon| colon + 1);
            report.hide(start + from..start + line.trim_end().len());
        }
        start += line.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_of_aliases_are_bounded() {
        let mut source = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..30 {
            let items = vec![format!("*a{}", n - 1); 10].join(", ");
            source += &format!("a{n}: &a{n} [{items}]\n");
        }
        let mut report = Report::new("t.yaml", source);
        assert!(parse(&mut report).is_none());
        assert!(report.render(false).contains("more than 100000 values"));
    }

    #[test]
    fn an_alias_is_what_it_names() {
        let mut report = Report::new("t.yaml", "a: &x [1, two]\nb: *x\n");
        let root = parse(&mut report).expect("it is right");
        let Value::Mapping(entries) = &root.value else { panic!("a mapping") };
        assert_eq!((count(&entries[0].1), count(&entries[1].1)), (3, 3));
        assert_eq!(entries[1].1.name, "`b`");
    }
}
