//! JSON Schema of what can be read, made by the readers themselves, so that an editor and `tidemill check` cannot disagree
//! about which keys there are.

use serde_json::{Map, Value, json};

/// The mappings that were met, by name: each is written once and referred to.
#[derive(Debug, Default)]
pub(crate) struct Definitions(Map<String, Value>);

/// A key of a mapping.
pub(crate) struct Property<'a> {
    pub(crate) name: &'a str,
    pub(crate) comment: &'a [&'a str],
    pub(crate) required: bool,
    pub(crate) schema: Value,
}

impl Definitions {
    /// A mapping with fixed keys.
    pub(crate) fn mapping<'a>(
        &mut self,
        name: &str,
        comment: &[&str],
        properties: impl FnOnce(&mut Self) -> Vec<Property<'a>>,
    ) -> Value {
        if !self.0.contains_key(name) {
            // Known before its inside is, which may hold it again.
            self.0.insert(name.to_owned(), Value::Null);
            let properties = properties(self);
            self.0.insert(name.to_owned(), mapping(comment, properties));
        }
        json!({ "$ref": format!("#/$defs/{name}") })
    }
}

/// The schema of a file that `root` reads.
pub(crate) fn document<T: super::read::Read>(title: &str) -> Value {
    let mut definitions = Definitions::default();
    let root = T::schema(&mut definitions);
    let mut schema = json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "title": title });
    for part in [root, json!({ "$defs": definitions.0 })] {
        if let (Value::Object(schema), Value::Object(part)) = (&mut schema, part) {
            schema.extend(part);
        }
    }
    schema
}

/// A mapping with fixed keys, written out.
fn mapping(comment: &[&str], properties: Vec<Property<'_>>) -> Value {
    let required: Vec<&str> = properties.iter().filter(|p| p.required).map(|p| p.name).collect();
    let properties: Map<String, Value> =
        properties.into_iter().map(|p| (p.name.to_owned(), described(p.schema, p.comment))).collect();
    let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    described(schema, comment)
}

/// A mapping with exactly one of these keys.
pub(crate) fn one_of(
    name: &str,
    comment: &[&str],
    keys: Vec<Property<'_>>,
    definitions: &mut Definitions,
) -> Value {
    definitions.mapping(name, comment, |_| keys);
    if let Some(Value::Object(schema)) = definitions.0.get_mut(name) {
        schema.insert("minProperties".to_owned(), json!(1));
        schema.insert("maxProperties".to_owned(), json!(1));
    }
    json!({ "$ref": format!("#/$defs/{name}") })
}

/// A choice between words.
pub(crate) fn choice(words: &[(&str, &[&str])]) -> Value {
    let mut choices: Vec<Value> =
        words.iter().map(|(word, comment)| described(json!({ "const": word }), comment)).collect();
    choices.push(from_environment());
    json!({ "anyOf": choices })
}

/// Any scalar: text, and what YAML takes for something else.
pub(crate) fn text() -> Value {
    json!({ "type": ["string", "number", "boolean"] })
}

/// A text of this form (a regular expression), or one that the environment gives.
pub(crate) fn pattern(pattern: &str, description: &str) -> Value {
    let form = json!({ "type": "string", "pattern": pattern, "description": description });
    json!({ "anyOf": [form, from_environment()] })
}

/// A whole number above zero.
pub(crate) fn count() -> Value {
    json!({ "anyOf": [{ "type": "integer", "minimum": 1 }, from_environment()] })
}

fn from_environment() -> Value {
    json!({ "type": "string", "pattern": "\\$\\{" })
}

/// `schema` with the comment's lines as one text; references to other items are for readers of the code.
fn described(mut schema: Value, comment: &[&str]) -> Value {
    let lines: Vec<&str> = comment.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect();
    if let (Value::Object(schema), false) = (&mut schema, lines.is_empty()) {
        schema.insert("description".to_owned(), Value::from(lines.join(" ")));
    }
    schema
}
