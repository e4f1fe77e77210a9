//! Where requests say whose they are.

use http::{HeaderName, HeaderValue};

use crate::headers::{Headers, name};

/// Where a request has its user's key, instead of in `x-tradewind-user`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserKey {
    Header(HeaderName),
    /// The name of a cookie, in its own case.
    Cookie(String),
}

impl UserKey {
    /// The header of that name.
    pub fn header(name: &str) -> Result<Self, &'static str> {
        name.parse().map(Self::Header).map_err(|_| "a header is named by letters, digits and -._")
    }

    /// The cookie of that name.
    pub fn cookie(name: &str) -> Result<Self, &'static str> {
        // Cookies are named as headers are, but in their own case.
        let named = HeaderName::from_bytes(name.as_bytes());
        named.map(|_| Self::Cookie(name.to_owned())).map_err(|_| "a cookie is named by letters, digits and -._")
    }

    /// Makes a user's request say its key in `x-tradewind-user`, which all that follows reads, other gateways too; what it says
    /// there itself is not heeded. Gateways have done so already for what they pass on.
    pub(crate) fn tell(&self, headers: &mut Headers) {
        if headers.contains(&name::PEER) {
            return;
        }
        let key = match self {
            Self::Header(from) => headers.get(from),
            Self::Cookie(cookie) => headers.cookie(cookie),
        };
        match key.and_then(|key| HeaderValue::from_bytes(key).ok()) {
            Some(key) => headers.insert(&name::USER, key),
            None => headers.remove(&name::USER),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert_eq!(UserKey::cookie("Uid"), Ok(UserKey::Cookie("Uid".to_owned())));
        assert_eq!(UserKey::header("X-Account"), Ok(UserKey::Header(HeaderName::from_static("x-account"))));
        for bad in ["", "a b", "a=b", "ä"] {
            assert!(UserKey::cookie(bad).is_err() && UserKey::header(bad).is_err(), "{bad}");
        }
    }
}
