//! The quick way for keys that are a text, an integer, or a tuple of these, which nearly all are: they are written as they are
//! serialised, where all others take a detour over a JSON value.

use std::fmt;

use serde::ser::{Impossible, Serialize, SerializeTuple, Serializer};

/// Takes what a key is made of, as long as it is nothing else.
pub(super) trait Scalars {
    fn text(&mut self, text: &str) -> Result<(), Other>;
    fn integer(&mut self, integer: i64) -> Result<(), Other>;
    /// A tuple begins, whose elements come next.
    fn tuple(&mut self) -> Result<(), Other>;
}

/// Says that a key is something else.
#[derive(Debug)]
pub(super) struct Other;

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no text, integer or tuple of them")
    }
}

impl std::error::Error for Other {}

impl serde::ser::Error for Other {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Other
    }
}

/// Hands what `key` is made of to `to`.
pub(super) fn scalars<K: Serialize + ?Sized>(key: &K, to: &mut impl Scalars) -> Result<(), Other> {
    key.serialize(Reading { to, within: false })
}

struct Reading<'a, S> {
    to: &'a mut S,
    /// Whether it is an element of a tuple, which may be no tuple again.
    within: bool,
}

type No = Impossible<(), Other>;

macro_rules! integers {
    ($($method:ident: $type:ty),*) => {
        $(fn $method(self, value: $type) -> Result<(), Other> {
            self.to.integer(i64::try_from(value).map_err(|_| Other)?)
        })*
    };
}

macro_rules! others {
    ($($method:ident($($type:ty),*) -> $result:ty),* $(,)?) => {
        $(fn $method(self, $(_: $type),*) -> Result<$result, Other> {
            Err(Other)
        })*
    };
}

impl<'a, S: Scalars> Serializer for Reading<'a, S> {
    type Ok = ();
    type Error = Other;
    type SerializeSeq = No;
    type SerializeTuple = Reading<'a, S>;
    type SerializeTupleStruct = No;
    type SerializeTupleVariant = No;
    type SerializeMap = No;
    type SerializeStruct = No;
    type SerializeStructVariant = No;

    integers!(
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64
    );

    fn serialize_str(self, text: &str) -> Result<(), Other> {
        self.to.text(text)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Other> {
        value.serialize(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, Other> {
        if self.within {
            return Err(Other);
        }
        self.to.tuple()?;
        Ok(Reading { to: self.to, within: true })
    }

    others!(
        serialize_bool(bool) -> (),
        serialize_f32(f32) -> (),
        serialize_f64(f64) -> (),
        serialize_char(char) -> (),
        serialize_bytes(&[u8]) -> (),
        serialize_none() -> (),
        serialize_unit() -> (),
        serialize_unit_struct(&'static str) -> (),
        serialize_unit_variant(&'static str, u32, &'static str) -> (),
        serialize_seq(Option<usize>) -> No,
        serialize_tuple_struct(&'static str, usize) -> No,
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> No,
        serialize_map(Option<usize>) -> No,
        serialize_struct(&'static str, usize) -> No,
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> No,
    );

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<(), Other> {
        Err(Other)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Other> {
        Err(Other)
    }
}

impl<S: Scalars> SerializeTuple for Reading<'_, S> {
    type Ok = ();
    type Error = Other;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Other> {
        value.serialize(Reading { to: &mut *self.to, within: true })
    }

    fn end(self) -> Result<(), Other> {
        Ok(())
    }
}
