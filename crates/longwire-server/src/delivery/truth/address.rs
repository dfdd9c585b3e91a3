//! Where a webhook may go. Apps choose the URLs, so a name is resolved first, what is not public is left out, and the connection
//! goes to what was looked at (THREATS, webhooks).

use crate::domain::Invalid;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A URL, bytes.
pub(super) const URL_BYTES_MAX: usize = 1024;

/// A URL that may be used. `private`: also `http`, and addresses that are not public.
///
/// # Errors
/// Why not.
pub(super) fn parse(text: &str, private: bool) -> Result<Url, Invalid> {
    let invalid = |problem: &str| Invalid::new("url", problem);
    if text.len() > URL_BYTES_MAX {
        return Err(invalid(&format!("at most {URL_BYTES_MAX} bytes")));
    }
    let url = Url::parse(text).map_err(|_| invalid("is not a URL"))?;
    if url.scheme() != "https" && !(private && url.scheme() == "http") {
        return Err(invalid("must be https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("must hold no credentials: requests are signed"));
    }
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| invalid("has no host"))?;
    // The parser writes every form of an IPv4 address (decimal, octal, hexadecimal, short) as four numbers.
    let literal: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    if !private && literal.is_some_and(|address| !is_public(address)) {
        return Err(invalid("is not a public address"));
    }
    Ok(url)
}

/// Resolves names, and leaves out what is not public.
pub(super) struct Guarded {
    pub(super) private: bool,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let private = self.private;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> =
                found.filter(|address| private || is_public(address.ip())).collect();
            if allowed.is_empty() {
                return Err("the name has no public address".into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Whether anybody may be reached there from anywhere: not loopback, private, link-local, shared, reserved, multicast, or an IPv6 form
/// of such a one.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let closed = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || a == 0
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b))
        || a >= 224;
    !closed
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let s = address.segments();
    let inner = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    // 64:ff9b::/96 (NAT64) and 2002::/16 (6to4) carry an IPv4 address.
    if s[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        return inner(s[6], s[7]);
    }
    if s[0] == 0x2002 {
        return inner(s[1], s[2]);
    }
    // 2000::/3 is what is given out; of it 2001::/23 (Teredo and other protocols), 2001:db8::/32 and 3fff::/20 (documentation)
    // are not public.
    s[0] & 0xe000 == 0x2000
        && !(s[0] == 0x2001 && s[1] < 0x200)
        && !(s[0] == 0x2001 && s[1] == 0xdb8)
        && !(s[0] == 0x3fff && s[1] < 0x1000)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Spellings of addresses that are not public.
    const CLOSED: [&str; 66] = [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "127.255.255.254",
        "0.0.0.0",
        "0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "012.0.0.1",
        "0xa.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.0.1",
        "192.168.255.255",
        "3232235521",
        "0xc0a80001",
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "169.254.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.1",
        "198.18.0.1",
        "198.19.255.255",
        "192.88.99.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::ffff:169.254.169.254]",
        "[::ffff:10.0.0.1]",
        "[::127.0.0.1]",
        "[::a00:1]",
        "[0:0:0:0:0:ffff:c0a8:1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:7f00:1::]",
        "[2002:c0a8:1::1]",
        "[fe80::1]",
        "[febf::1]",
        "[fec0::1]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[fdff::1]",
        "[ff02::1]",
        "[2001::1]",
        "[2001:db8::1]",
        "[100::1]",
        "[3fff::1]",
        "[64:ff9b:1::1]",
        "\u{ff11}27.0.0.1",
    ];

    #[test]
    fn no_spelling_of_an_address_that_is_not_public_is_taken() {
        for host in CLOSED {
            let refused = parse(&format!("https://{host}/hook"), false);
            assert!(refused.is_err(), "{host}: {refused:?}");
        }
        for url in [
            "http://example.com/",
            "ftp://example.com/",
            "https://",
            "https://u:p@example.com/",
            "file:///x",
            "x",
        ] {
            assert!(parse(url, false).is_err(), "{url}");
        }
        assert!(parse(&format!("https://example.com/{}", "x".repeat(1024)), true).is_err());
    }

    #[test]
    fn public_ones_are_and_the_others_where_the_operator_says_so() {
        for host in
            ["example.com", "8.8.8.8", "[2606:4700::1111]", "172.32.0.1", "100.128.0.1", "[64:ff9b::808:808]"]
        {
            assert!(parse(&format!("https://{host}:8443/hook?x=1"), false).is_ok(), "{host}");
        }
        assert!(parse("http://127.0.0.1:9/hook", true).is_ok());
    }

    #[test]
    fn a_name_that_resolves_to_loopback_has_no_address() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let name = || "localhost".parse::<Name>().unwrap();
        assert!(runtime.block_on(Guarded { private: false }.resolve(name())).is_err());
        assert!(runtime.block_on(Guarded { private: true }.resolve(name())).is_ok());
    }
}
