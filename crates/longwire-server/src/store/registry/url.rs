//! The URL of a registry: what it names, and what of it may be shown.

/// A URL without what must not be seen: the password, and the parameters, which may name one.
#[must_use]
pub fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://").filter(|(scheme, _)| *scheme != "sqlite") else {
        // A path, or something that is no URL and may be anything.
        return if url.starts_with("sqlite:") { url.to_owned() } else { "sql.url".to_owned() };
    };
    // Passwords are to be escaped; one that is not may have any of these characters in it, so the last "@" decides.
    let (user, place) = match rest.rsplit_once('@') {
        Some((user, place)) => (user.split(':').next().unwrap_or_default().to_owned() + "@", place),
        None => (String::new(), rest),
    };
    let place = place.split('?').next().unwrap_or_default();
    format!("{scheme}://{user}{place}")
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn no_password_is_shown_however_it_is_written() {
        for (url, seen) in [
            ("postgres://ann:secret@db:5432/longwire?sslmode=require", "postgres://ann@db:5432/longwire"),
            ("mysql://ann:se/cr?e@t@db/longwire", "mysql://ann@db/longwire"),
            ("mariadb://db/longwire?password=secret", "mariadb://db/longwire"),
            ("mariadb://ann:secret@/longwire?socket=/run/a@b", "mariadb://ann@b"),
            ("sqlite:/var/lib/longwire/registry.db", "sqlite:/var/lib/longwire/registry.db"),
            ("secret", "sql.url"),
        ] {
            assert_eq!(shown(url), seen);
        }
    }
}
