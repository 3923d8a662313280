//! The ids that Kafka gives to topics: one that is deleted and made anew under its name has another.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::sync::Arc;

use rdkafka::bindings as rd;
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;

use super::client::Client;
use crate::error::{Error, Result};

/// Topics' ids, as text.
pub(super) type TopicIds = BTreeMap<Arc<str>, String>;

/// What old brokers say, which give no ids.
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// The ids of those of `topics` that exist and have one. rdkafka has no call for it, librdkafka has (`DescribeTopics`).
///
/// # Errors
/// If the brokers do not answer within `timeout`.
pub(super) fn topic_ids(
    client: &Client,
    topics: &[Arc<str>],
    timeout: std::time::Duration,
) -> Result<TopicIds> {
    let refused = |what: &str| Error::internal(format!("librdkafka makes no {what}"));
    let names: Vec<CString> = topics.iter().filter_map(|topic| CString::new(&**topic).ok()).collect();
    let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    if pointers.is_empty() {
        return Ok(TopicIds::new());
    }
    let native = client.client().native_ptr();
    let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the client is alive; each value is checked, and given back once when it is dropped.
    let queue = unsafe { rd::rd_kafka_queue_new(native) };
    let queue = Owned::of(queue, rd::rd_kafka_queue_destroy).ok_or_else(|| refused("queue"))?;
    // SAFETY: as above.
    let options = unsafe {
        rd::rd_kafka_AdminOptions_new(native, rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS)
    };
    let options = Owned::of(options, rd::rd_kafka_AdminOptions_destroy).ok_or_else(|| refused("options"))?;
    // SAFETY: there are as many C strings as it is told, and they outlive the call, which copies them.
    let collection =
        unsafe { rd::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()) };
    let collection =
        Owned::of(collection, rd::rd_kafka_TopicCollection_destroy).ok_or_else(|| refused("list"))?;
    // SAFETY: all of these are valid; no text of an error is asked for.
    let event = unsafe {
        rd::rd_kafka_AdminOptions_set_request_timeout(options.0, milliseconds, std::ptr::null_mut(), 0);
        rd::rd_kafka_DescribeTopics(native, collection.0, options.0, queue.0);
        rd::rd_kafka_queue_poll(queue.0, milliseconds)
    };
    let unavailable = |text: String| Error::unavailable(format!("cannot ask Kafka for topics' ids: {text}"));
    let event = Owned::of(event, rd::rd_kafka_event_destroy)
        .ok_or_else(|| unavailable("the broker did not answer in time".into()))?;
    // SAFETY: the event is valid.
    let error = unsafe { rd::rd_kafka_event_error(event.0) };
    if error != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Err(unavailable(RDKafkaErrorCode::from(error).to_string()));
    }
    let mut count = 0;
    // SAFETY: it is the answer to this request, and what is read of it lives as long as the event.
    let described = unsafe {
        let result = rd::rd_kafka_event_DescribeTopics_result(event.0);
        if result.is_null() {
            return Err(unavailable("the answer is to another question".into()));
        }
        let first = rd::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if first.is_null() { &[][..] } else { std::slice::from_raw_parts(first, count) }
    };
    let id = |topic: &*const rd::rd_kafka_TopicDescription_t| {
        // SAFETY: librdkafka gives valid descriptions, whose names and ids are C strings.
        unsafe {
            let error = rd::rd_kafka_TopicDescription_error(*topic);
            let is_there = error.is_null()
                || rd::rd_kafka_error_code(error) == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
            let id = rd::rd_kafka_TopicDescription_topic_id(*topic);
            if !is_there || id.is_null() {
                return None;
            }
            let name = CStr::from_ptr(rd::rd_kafka_TopicDescription_name(*topic)).to_string_lossy();
            let id = CStr::from_ptr(rd::rd_kafka_Uuid_base64str(id)).to_string_lossy().into_owned();
            (id != NO_ID).then(|| (name.into(), id))
        }
    };
    Ok(described.iter().filter_map(id).collect())
}

/// What librdkafka made, and the call that gives it back.
struct Owned<T>(*mut T, unsafe extern "C" fn(*mut T));

impl<T> Owned<T> {
    fn of(made: *mut T, give_back: unsafe extern "C" fn(*mut T)) -> Option<Self> {
        (!made.is_null()).then_some(Self(made, give_back))
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: it is not null, and given back once.
        unsafe { (self.1)(self.0) }
    }
}
