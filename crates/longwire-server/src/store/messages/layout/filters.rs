//! Filters as rows of the log.

use super::rows::{Fields, put_text};
use crate::domain::Tag;
use crate::domain::audience::condition::DEPTH_MAX;
use crate::domain::audience::filter::{PARTS, Slice};
use crate::domain::audience::{Compare, Condition, Filter};
use crate::domain::device::{AttributeName, AttributeValue};

/// The filter of a place in the log.
pub(crate) fn encode(filter: &Filter) -> Vec<u8> {
    let mut row = Vec::with_capacity(64);
    row.extend_from_slice(&filter.sample.to_be_bytes());
    let slice = filter.slice.unwrap_or(Slice { salt: 0, from: 0, to: PARTS });
    row.push(u8::from(filter.slice.is_some()));
    row.extend_from_slice(&slice.salt.to_be_bytes());
    row.extend_from_slice(&slice.from.to_be_bytes());
    row.extend_from_slice(&slice.to.to_be_bytes());
    put(&mut row, &filter.condition);
    row
}

fn put(row: &mut Vec<u8>, condition: &Condition) {
    let list = |row: &mut Vec<u8>, code: u8, all: &[Condition]| {
        row.push(code);
        // A condition has at most 128 nodes.
        row.push(all.len() as u8);
        for one in all {
            put(row, one);
        }
    };
    match condition {
        Condition::Everyone => row.push(0),
        Condition::Tag(tag) => {
            row.push(1);
            put_text(row, tag.as_str());
        }
        Condition::Attribute(name, compare, value) => {
            row.extend_from_slice(&[2, *compare as u8]);
            put_text(row, name.as_str());
            put_text(row, value.as_str());
        }
        Condition::Not(inner) => {
            row.push(3);
            put(row, inner);
        }
        Condition::All(all) => list(row, 4, all),
        Condition::Any(any) => list(row, 5, any),
    }
}

/// Reads what [`encode`] wrote.
pub(crate) fn decode(row: &[u8]) -> Option<Filter> {
    let mut fields = Fields(row);
    let sample = fields.u32()?;
    let sliced = fields.byte()? != 0;
    let slice = Slice { salt: fields.u64()?, from: fields.u32()?, to: fields.u32()? };
    let condition = read(&mut fields, 0)?;
    fields.end(Filter { condition, sample, slice: sliced.then_some(slice) })
}

fn read(fields: &mut Fields<'_>, depth: usize) -> Option<Condition> {
    if depth > DEPTH_MAX {
        return None;
    }
    let code = fields.byte()?;
    Some(match code {
        0 => Condition::Everyone,
        1 => Condition::Tag(Tag::parse("tag", fields.text()?).ok()?),
        2 => {
            let compare = *Compare::ALL.get(usize::from(fields.byte()?))?;
            let name = AttributeName::parse("condition", fields.text()?).ok()?;
            Condition::Attribute(name, compare, AttributeValue::parse("condition", fields.text()?).ok()?)
        }
        3 => Condition::Not(Box::new(read(fields, depth + 1)?)),
        4 | 5 => {
            let count = fields.byte()?;
            let all = (0..count).map(|_| read(fields, depth + 1)).collect::<Option<Vec<_>>>()?;
            if code == 4 { Condition::All(all) } else { Condition::Any(all) }
        }
        _ => return None,
    })
}
