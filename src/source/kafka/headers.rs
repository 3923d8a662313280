//! A record's headers.

use std::ffi::CStr;
use std::marker::PhantomData;
use std::ptr;

use rdkafka::bindings as rd;

use super::native::RawHeaders;

/// The headers of a record; those in the reader's buffer are decoded only when asked for.
#[derive(Clone, Copy)]
pub struct Headers<'a>(Inner<'a>);

#[derive(Clone, Copy)]
enum Inner<'a> {
    /// A message of librdkafka that lives as long as `'a`.
    Message(*const rd::rd_kafka_message_t, PhantomData<&'a ()>),
    /// As they stand in a response.
    Raw(RawHeaders<'a>),
    Owned(&'a [(String, Option<Vec<u8>>)]),
}

impl<'a> Headers<'a> {
    /// The headers of `message`, which lives as long as `'a`.
    pub(super) fn of(message: *const rd::rd_kafka_message_t) -> Self {
        Self(Inner::Message(message, PhantomData))
    }

    pub(super) fn raw(headers: RawHeaders<'a>) -> Self {
        Self(Inner::Raw(headers))
    }

    /// Those that a program holds.
    pub(crate) fn owned(headers: &'a [(String, Option<Vec<u8>>)]) -> Self {
        Self(Inner::Owned(headers))
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> {
        let raw = if let Inner::Raw(headers) = self.0 { Some(headers) } else { None };
        let (native, owned): (*const rd::rd_kafka_headers_t, &'a [_]) = match self.0 {
            Inner::Raw(_) => (ptr::null(), &[]),
            Inner::Owned(headers) => (ptr::null(), headers),
            Inner::Message(message, _) => {
                let mut headers = ptr::null_mut();
                // SAFETY: the message is alive for 'a; a message without headers gives an error.
                let code = unsafe { rd::rd_kafka_message_headers(message, &mut headers) };
                let found = code == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
                (if found { headers } else { ptr::null_mut() }, &[])
            }
        };
        let owned =
            owned.iter().map(|(name, value): &(String, Option<Vec<u8>>)| (name.as_str(), value.as_deref()));
        let raw = raw.into_iter().flat_map(RawHeaders::iter);
        (0..).map_while(move |i| header(native, i)).chain(raw).chain(owned)
    }

    /// Copies of all names and values.
    pub fn to_owned(&self) -> Vec<(String, Option<Vec<u8>>)> {
        self.iter().map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec))).collect()
    }
}

fn header<'a>(headers: *const rd::rd_kafka_headers_t, index: usize) -> Option<(&'a str, Option<&'a [u8]>)> {
    if headers.is_null() {
        return None;
    }
    let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
    // SAFETY: `headers` belongs to a living message; an index past the end gives an error.
    let code = unsafe { rd::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut size) };
    if code != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return None;
    }
    // SAFETY: on success `name` is a C string, and `value` null or `size` bytes, both owned by the message.
    unsafe {
        let value = (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast::<u8>(), size));
        // Kafka's header names are UTF-8; a name that is not has no way to be told.
        Some((CStr::from_ptr(name).to_str().unwrap_or(""), value))
    }
}
