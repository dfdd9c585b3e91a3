//! Strict UTF-8. U+FEFF is a character like any other and stays (MQTT-1.5.4-3).

use super::Fault;

/// Well-formed UTF-8, so no surrogates and nothing overlong (MQTT-1.5.4-1), without U+0000 (MQTT-1.5.4-2).
#[inline]
pub(super) fn well_formed(bytes: &[u8]) -> Result<&str, Fault> {
    let text = std::str::from_utf8(bytes).map_err(|_| Fault::Utf8)?;
    if bytes.contains(&0) { Err(Fault::Null) } else { Ok(text) }
}

/// A name: well-formed, and without what 1.5.4 says should not be there. The specification lets a receiver refuse it;
/// we do in topics, filters, client ids and user names, where twins that print alike would be different names.
#[inline]
pub(super) fn name(bytes: &[u8]) -> Result<&str, Fault> {
    let text = well_formed(bytes)?;
    if bytes.iter().any(|byte| byte.is_ascii_control()) || (!bytes.is_ascii() && has_oddities(text)) {
        return Err(Fault::Control);
    }
    Ok(text)
}

/// U+0080..U+009F or a non-character; ASCII is judged elsewhere.
pub(super) fn has_oddities(text: &str) -> bool {
    text.chars().any(|c| {
        let code = c as u32;
        matches!(code, 0x80..=0x9F | 0xFDD0..=0xFDEF) || code & 0xFFFE == 0xFFFE
    })
}
