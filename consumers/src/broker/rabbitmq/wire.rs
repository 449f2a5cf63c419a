//! A message as AMQP writes it down, and back.
//!
//! Total both ways: any delivery becomes a [`Message`], and a message that AMQP cannot carry is
//! refused before it is sent, because a frame the server refuses would close the channel for
//! everybody. What would double or mark a copy (`CC`, `x-death`, counts) is never sent on.

use std::collections::BTreeMap;

use jiff::Timestamp;
use lapin::{
    BasicProperties,
    types::{AMQPValue, ByteArray, FieldTable, ShortString},
};
use spinor_executors::{HeaderValue, Headers};

use crate::{
    broker::PublishError,
    message::{MAX_BODY, Message, Properties, header},
};

/// All headers together, as a frame of 128 KiB must hold them with the other properties.
const MAX_HEADERS: usize = 100 << 10;
/// A short string's limit.
const MAX_SHORT: usize = 255;

/// Never sent on: they double the message, or are the broker's own count.
fn dropped(name: &str) -> bool {
    matches!(name, "CC" | "BCC" | "x-death" | "x-delivery-count" | "x-acquired-count")
        || name.starts_with("x-first-death-")
        || name.starts_with("x-last-death-")
}

/// The properties of a message, as they are sent.
pub fn properties(message: &Message) -> Result<BasicProperties, PublishError> {
    if message.body.len() > MAX_BODY {
        return Err(PublishError::TooLarge { size: message.body.len(), limit: MAX_BODY });
    }
    let from = &message.properties;
    let mut to = BasicProperties::default().with_delivery_mode(2);
    if let Some(text) = &from.id {
        to = to.with_message_id(short(text)?);
    }
    if let Some(text) = &from.kind {
        to = to.with_type(short(text)?);
    }
    if let Some(text) = &from.correlation_id {
        to = to.with_correlation_id(short(text)?);
    }
    if let Some(text) = &from.reply_to {
        to = to.with_reply_to(short(text)?);
    }
    if let Some(text) = &from.content_type {
        to = to.with_content_type(short(text)?);
    }
    if let Some(text) = &from.app_id {
        to = to.with_app_id(short(text)?);
    }
    if let Some(priority) = from.priority {
        to = to.with_priority(priority);
    }
    if let Some(seconds) = from.timestamp {
        to = to.with_timestamp(seconds);
    }
    let headers = headers(from)?;
    Ok(if headers.inner().is_empty() { to } else { to.with_headers(headers) })
}

fn headers(from: &Properties) -> Result<FieldTable, PublishError> {
    let mut table = BTreeMap::new();
    let mut size = 0;
    for (name, value) in from.headers.iter().filter(|(name, _)| !dropped(name)) {
        size += name.len() + weight(value);
        table.insert(short(name)?, to_amqp(value)?);
    }
    if let Some(at) = from.expiration.as_deref().and_then(expires_at)
        && !from.headers.contains_key(header::EXPIRES_AT)
    {
        table.insert(header::EXPIRES_AT.into(), AMQPValue::LongLongInt(at));
    }
    if size > MAX_HEADERS {
        return Err(PublishError::TooLarge { size, limit: MAX_HEADERS });
    }
    Ok(table.into())
}

fn expires_at(millis: &str) -> Option<i64> {
    let after = jiff::SignedDuration::from_millis(millis.parse().ok()?);
    Timestamp::now().checked_add(after).ok().map(Timestamp::as_microsecond)
}

fn short(text: &str) -> Result<ShortString, PublishError> {
    ShortString::try_new(text).map_err(|_| PublishError::TooLarge { size: text.len(), limit: MAX_SHORT })
}

/// About what a value takes in a frame.
fn weight(value: &HeaderValue) -> usize {
    9 + match value {
        HeaderValue::Text(text) => text.len(),
        HeaderValue::Bytes(bytes) => bytes.len(),
        HeaderValue::List(list) => list.iter().map(weight).sum(),
        HeaderValue::Table(table) => table.iter().map(|(name, value)| name.len() + weight(value)).sum(),
        _ => 0,
    }
}

fn to_amqp(value: &HeaderValue) -> Result<AMQPValue, PublishError> {
    Ok(match value {
        HeaderValue::Null => AMQPValue::Void,
        HeaderValue::Bool(value) => AMQPValue::Boolean(*value),
        HeaderValue::Int(value) => AMQPValue::LongLongInt(*value),
        HeaderValue::Float(value) => AMQPValue::Double(*value),
        HeaderValue::Text(text) => AMQPValue::LongString(text.as_str().into()),
        HeaderValue::Bytes(bytes) => AMQPValue::ByteArray(ByteArray::from(bytes.as_ref())),
        HeaderValue::Time(seconds) => AMQPValue::Timestamp(*seconds),
        HeaderValue::List(list) => {
            AMQPValue::FieldArray(list.iter().map(to_amqp).collect::<Result<Vec<_>, _>>()?.into())
        }
        HeaderValue::Table(table) => {
            let table: Result<BTreeMap<_, _>, PublishError> =
                table.iter().map(|(name, value)| Ok((short(name)?, to_amqp(value)?))).collect();
            AMQPValue::FieldTable(table?.into())
        }
    })
}

/// The message in a delivery. A `user_id` is the sender's own and not kept.
pub fn message(properties: &BasicProperties, body: Vec<u8>) -> Message {
    let text = |value: &Option<ShortString>| value.as_ref().map(|text| text.as_str().to_owned());
    Message {
        properties: Properties {
            id: text(properties.message_id()),
            kind: text(properties.kind()),
            correlation_id: text(properties.correlation_id()),
            reply_to: text(properties.reply_to()),
            priority: *properties.priority(),
            timestamp: *properties.timestamp(),
            content_type: text(properties.content_type()),
            app_id: text(properties.app_id()),
            expiration: text(properties.expiration()),
            headers: properties.headers().as_ref().map(from_table).unwrap_or_default(),
        },
        body: body.into(),
    }
}

fn from_table(table: &FieldTable) -> Headers {
    table.into_iter().map(|(name, value)| (name.as_str().to_owned(), from_amqp(value))).collect()
}

fn from_amqp(value: &AMQPValue) -> HeaderValue {
    match value {
        AMQPValue::Boolean(value) => HeaderValue::Bool(*value),
        AMQPValue::ShortShortInt(value) => HeaderValue::Int((*value).into()),
        AMQPValue::ShortShortUInt(value) => HeaderValue::Int((*value).into()),
        AMQPValue::ShortInt(value) => HeaderValue::Int((*value).into()),
        AMQPValue::ShortUInt(value) => HeaderValue::Int((*value).into()),
        AMQPValue::LongInt(value) => HeaderValue::Int((*value).into()),
        AMQPValue::LongUInt(value) => HeaderValue::Int((*value).into()),
        AMQPValue::LongLongInt(value) => HeaderValue::Int(*value),
        AMQPValue::Float(value) => HeaderValue::Float((*value).into()),
        AMQPValue::Double(value) => HeaderValue::Float(*value),
        AMQPValue::DecimalValue(value) => {
            HeaderValue::Float(f64::from(value.value) / 10f64.powi(i32::from(value.scale)))
        }
        AMQPValue::ShortString(text) => HeaderValue::Text(text.as_str().to_owned()),
        AMQPValue::LongString(text) => match std::str::from_utf8(text.as_bytes()) {
            Ok(text) => HeaderValue::Text(text.to_owned()),
            Err(_) => HeaderValue::Bytes(text.as_bytes().to_vec().into()),
        },
        AMQPValue::FieldArray(list) => HeaderValue::List(list.as_slice().iter().map(from_amqp).collect()),
        AMQPValue::Timestamp(seconds) => HeaderValue::Time(*seconds),
        AMQPValue::FieldTable(table) => HeaderValue::Table(from_table(table)),
        AMQPValue::ByteArray(bytes) => HeaderValue::Bytes(bytes.as_slice().to_vec().into()),
        AMQPValue::Void => HeaderValue::Null,
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::DecimalValue;

    use super::*;

    fn there_and_back(message: &Message) -> Message {
        let properties = properties(message).unwrap();
        super::message(&properties, message.body.to_vec())
    }

    #[test]
    fn every_property_and_every_kind_of_header_survives() {
        let deep = HeaderValue::Table(BTreeMap::from([(
            "list".to_owned(),
            HeaderValue::List(vec![HeaderValue::Null, HeaderValue::Bool(true), HeaderValue::Time(7)]),
        )]));
        let headers: Headers = [
            ("int".to_owned(), HeaderValue::Int(i64::MIN)),
            ("float".to_owned(), HeaderValue::Float(0.1)),
            ("text".to_owned(), HeaderValue::Text("grüß".to_owned())),
            ("bytes".to_owned(), HeaderValue::Bytes(vec![0xff, 0x00].into())),
            ("deep".to_owned(), deep),
        ]
        .into();
        let some = |text: &str| Some(text.to_owned());
        let message = Message {
            properties: Properties {
                id: some("i"),
                kind: some("k"),
                correlation_id: some("c"),
                reply_to: some("r"),
                priority: Some(9),
                timestamp: Some(1),
                content_type: some("t"),
                app_id: some("a"),
                expiration: None,
                headers,
            },
            body: vec![0, 1, 2].into(),
        };
        assert_eq!(there_and_back(&message), message);
    }

    #[test]
    fn foreign_field_types_become_ours() {
        let mut table = FieldTable::default();
        table.insert("small".into(), AMQPValue::ShortShortUInt(200));
        table.insert("decimal".into(), AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 1234 }));
        table.insert("raw".into(), AMQPValue::LongString(vec![0xff].into()));
        let seen = message(&BasicProperties::default().with_headers(table), vec![]).properties.headers;
        assert_eq!(seen["small"], HeaderValue::Int(200));
        assert_eq!(seen["decimal"], HeaderValue::Float(12.34));
        assert_eq!(seen["raw"], HeaderValue::Bytes(vec![0xff].into()));
    }

    #[test]
    fn what_would_double_a_copy_is_not_sent_and_an_expiration_becomes_an_instant() {
        let mut message = Message::default();
        for name in ["CC", "BCC", "x-death", "x-first-death-queue", "x-delivery-count", "mine"] {
            message.properties.headers.insert(name.to_owned(), HeaderValue::Int(1));
        }
        message.properties.expiration = Some("1000".to_owned());
        let seen = there_and_back(&message).properties;
        assert_eq!(seen.headers.keys().collect::<Vec<_>>(), ["mine", header::EXPIRES_AT]);
        assert_eq!(seen.expiration, None);
    }

    #[test]
    fn what_no_frame_can_hold_is_refused_before_it_is_sent() {
        let mut long = Message::default();
        long.properties.id = Some("x".repeat(256));
        let mut wide = Message::default();
        wide.properties.headers.insert("h".to_owned(), HeaderValue::Text("x".repeat(MAX_HEADERS)));
        let large = Message { body: vec![0; MAX_BODY + 1].into(), ..Message::default() };
        for message in [long, wide, large] {
            assert!(matches!(properties(&message), Err(PublishError::TooLarge { .. })));
        }
    }
}
