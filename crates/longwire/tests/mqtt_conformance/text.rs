//! Words, escapes and values of case texts.

use std::collections::HashMap;

/// What stands for something else in a case's text.
#[derive(Clone, Default, Debug)]
pub(crate) struct Names {
    /// `%c`: begins every client id of the case.
    pub(crate) client: String,
    /// `%t`: begins every topic of the case.
    pub(crate) topic: String,
    /// `$x`: what an earlier answer held.
    pub(crate) bound: HashMap<String, String>,
}

/// Words of a line: parted by spaces, save inside double quotes, which are dropped.
pub(crate) fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut begun) = (Vec::new(), String::new(), false, false);
    for letter in line.chars() {
        match letter {
            '"' => (quoted, begun) = (!quoted, true),
            ' ' if !quoted => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            _ => {
                word.push(letter);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

/// The bytes that a value stands for: `%c`, `%t` and `$x` replaced, `\xNN` a byte, `{x*N}` N times x.
pub(crate) fn bytes(value: &str, names: &Names) -> Vec<u8> {
    if let Some(name) = value.strip_prefix('$')
        && let Some(bound) = names.bound.get(name)
    {
        return bytes(bound, &Names::default());
    }
    let value = value.replace("%c", &names.client).replace("%t", &names.topic);
    let (mut out, mut rest) = (Vec::new(), value.as_str());
    while let Some(letter) = rest.chars().next() {
        if let Some(hex) = rest.strip_prefix("\\x") {
            out.push(u8::from_str_radix(&hex[..2], 16).expect("two hex digits behind \\x"));
            rest = &hex[2..];
        } else if let Some((what, count, behind)) = repeated(rest) {
            let piece = bytes(what, names);
            out.extend(piece.iter().copied().cycle().take(piece.len() * count));
            rest = behind;
        } else {
            out.extend_from_slice(letter.to_string().as_bytes());
            rest = &rest[letter.len_utf8()..];
        }
    }
    out
}

/// `{x*N}` at the front: x, N, what is behind.
fn repeated(text: &str) -> Option<(&str, usize, &str)> {
    let (inside, behind) = text.strip_prefix('{')?.split_once('}')?;
    let (what, count) = inside.rsplit_once('*')?;
    Some((what, count.parse().ok()?, behind))
}

/// Bytes as the text that patterns are compared with.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let letter = |&byte: &u8| match byte {
        b'!'..=b'~' if byte != b'\\' && byte != b'"' => char::from(byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    };
    bytes.iter().map(letter).collect()
}

/// A number, decimal or `0x…`, or what an earlier answer held under `$x`.
pub(crate) fn number(value: &str, names: &Names) -> u32 {
    let value = value.strip_prefix('$').map_or(value, |name| {
        names.bound.get(name).unwrap_or_else(|| panic!("${name} was never seen")).as_str()
    });
    try_number(value).unwrap_or_else(|| panic!("{value} is not a number"))
}

/// The same, if it is one.
pub(crate) fn try_number(value: &str) -> Option<u32> {
    value.strip_prefix("0x").map_or_else(|| value.parse().ok(), |hex| u32::from_str_radix(hex, 16).ok())
}

/// Bytes of hex digits, spaces allowed.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|letter| !letter.is_whitespace()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).expect("hex digits");
    digits.chunks(2).map(byte).collect()
}
