//! Signatures of deliveries, after the Standard Webhooks specification: whoever has the secret can tell that a delivery is
//! ours, whole, and of when it says.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use ring::hmac;

/// Secrets are written with this before them.
const PREFIX: &str = "whsec_";
/// The least and the most bytes of a secret, by the specification.
const LENGTHS: std::ops::RangeInclusive<usize> = 24..=64;

/// The key that deliveries of one receiver are signed with.
#[derive(Clone)]
pub(crate) struct Secret(hmac::Key);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

impl Secret {
    /// `whsec_` and base64.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let bytes = text.strip_prefix(PREFIX).and_then(|text| BASE64_STANDARD.decode(text).ok());
        match bytes {
            Some(bytes) if LENGTHS.contains(&bytes.len()) => Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes))),
            Some(bytes) => {
                Err(format!("a secret has {} to {} bytes, not {}", LENGTHS.start(), LENGTHS.end(), bytes.len()))
            }
            None => Err(format!("a secret is written as {PREFIX} and base64")),
        }
    }

    /// The value of `webhook-signature`; `timestamp` is in seconds of the Unix epoch.
    pub(super) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", BASE64_STANDARD.encode(context.sign()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example that libraries of the specification test themselves with.
    #[test]
    fn signatures_are_those_of_the_specification() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        let check = |text: &str, expected: &str| assert_eq!(Secret::parse(text).unwrap_err(), expected, "{text}");
        check("secret", "a secret is written as whsec_ and base64");
        check("whsec_???", "a secret is written as whsec_ and base64");
        check("whsec_c2VjcmV0", "a secret has 24 to 64 bytes, not 6");
    }
}
