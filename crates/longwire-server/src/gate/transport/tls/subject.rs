//! The name in a client's certificate. rustls has verified the certificate; what is read here only finds the names in it.

use rustls::pki_types::CertificateDer;

/// A name, bytes of UTF-8; a longer one counts as none.
const NAME_BYTES_MAX: usize = 128;
/// Names of one kind that are read; the rest is left out.
const NAMES_MAX: usize = 8;

/// Whom a certificate is for. Names with control characters, empty ones and ones of more than 128 bytes are left out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Subject {
    /// The common name (CN); `None` also if there are several.
    pub common_name: Option<String>,
    /// DNS names of the subject's alternative names, at most eight.
    pub dns_names: Vec<String>,
    /// URIs of the subject's alternative names, at most eight.
    pub uris: Vec<String>,
}

impl Subject {
    /// The one name that a device is known by: the common name, else the first DNS name, else the first URI.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        let first = || self.dns_names.first().or(self.uris.first());
        self.common_name.as_ref().or_else(first).map(String::as_str)
    }

    pub(super) fn read(certificate: &CertificateDer<'_>) -> Option<Subject> {
        let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
        let some = |names: &mut dyn Iterator<Item = &str>| {
            names.filter(|name| is_clean(name)).take(NAMES_MAX).map(str::to_owned).collect()
        };
        Some(Subject {
            common_name: common_name(certificate.subject()),
            dns_names: some(&mut certificate.valid_dns_names()),
            uris: some(&mut certificate.valid_uri_names()),
        })
    }
}

fn is_clean(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control)
}

const SET: u8 = 0x31;
const SEQUENCE: u8 = 0x30;
const OBJECT_ID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// The only CN in the contents of an RDNSequence (RFC 5280 section 4.1.2.4).
fn common_name(mut subject: &[u8]) -> Option<String> {
    let mut found = None;
    while !subject.is_empty() {
        let mut set = expect(&mut subject, SET)?;
        while !set.is_empty() {
            let mut attribute = expect(&mut set, SEQUENCE)?;
            if expect(&mut attribute, OBJECT_ID)? != COMMON_NAME {
                continue;
            }
            let (UTF8_STRING | PRINTABLE_STRING | IA5_STRING, text) = element(&mut attribute)? else {
                return None;
            };
            let text = std::str::from_utf8(text).ok().filter(|text| is_clean(text))?;
            if found.replace(text.to_owned()).is_some() {
                return None;
            }
        }
    }
    found
}

fn expect<'a>(der: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    element(der).filter(|(found, _)| *found == tag).map(|(_, contents)| contents)
}

/// The next element: its tag and contents. Lengths of up to two bytes are read, as long as a certificate's own.
fn element<'a>(der: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (length, rest) = match **der {
        [_, short @ 0..=0x7f, ref rest @ ..] => (usize::from(short), rest),
        [_, 0x81, length, ref rest @ ..] => (usize::from(length), rest),
        [_, 0x82, high, low, ref rest @ ..] => (usize::from(u16::from_be_bytes([high, low])), rest),
        _ => return None,
    };
    let tag = der[0];
    let (contents, rest) = rest.split_at_checked(length)?;
    *der = rest;
    Some((tag, contents))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn attribute(object: &[u8], tag: u8, text: &[u8]) -> Vec<u8> {
        let object = [&[OBJECT_ID, object.len() as u8], object].concat();
        let text = [&[tag, text.len() as u8], text].concat();
        let sequence = [&[SEQUENCE, (object.len() + text.len()) as u8][..], &object, &text].concat();
        [&[SET, sequence.len() as u8][..], &sequence].concat()
    }

    #[test]
    fn the_only_clean_common_name_is_found() {
        let other = attribute(&[0x55, 0x04, 0x0a], UTF8_STRING, b"Example");
        let name = attribute(COMMON_NAME, UTF8_STRING, b"device-7");
        assert_eq!(common_name(&[&other[..], &name].concat()).as_deref(), Some("device-7"));
        assert_eq!(common_name(&attribute(COMMON_NAME, PRINTABLE_STRING, b"a")).as_deref(), Some("a"));
        assert_eq!(common_name(&other), None);
        assert_eq!(common_name(&[&name[..], &name].concat()), None, "two names are none");
        assert_eq!(common_name(&attribute(COMMON_NAME, UTF8_STRING, b"a\0b")), None);
        assert_eq!(common_name(&attribute(COMMON_NAME, UTF8_STRING, b"\xff")), None);
        assert_eq!(common_name(&attribute(COMMON_NAME, UTF8_STRING, b"")), None);
        assert_eq!(
            common_name(&attribute(COMMON_NAME, 0x1e, b"\0a")),
            None,
            "two-byte characters are not read"
        );
        for cut in 1..name.len() {
            assert_eq!(common_name(&name[..cut]), None);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = common_name(&bytes);
            let _ = Subject::read(&CertificateDer::from(bytes));
        }
    }
}
