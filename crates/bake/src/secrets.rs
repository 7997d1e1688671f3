//! `bcrypt`, `rsadecrypt` and the functions of UUIDs (RFC 8017, section 7.2; RFC 9562).

use base64::Engine as _;
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs8::DecodePrivateKey;
use rsa::{Pkcs1v15Encrypt, PrivateKey};
use serde_json::Value;
use uuid::Uuid;

use crate::value::{number, text};

/// The cost where none is given, as in Go.
const COST_USUAL: u32 = 10;
/// The largest cost: each more doubles the time, and this one takes a minute.
const COST_MAX: u32 = 20;

/// The hash of a password, in the form that begins with `$2a$`; two are never the same.
pub fn bcrypt(arguments: &[Value]) -> Result<Value, String> {
    let (password, cost) = match arguments {
        [password] => (text(password)?, COST_USUAL),
        [password, cost] => {
            let cost = number(cost)?;
            let known = (4.0..=f64::from(COST_MAX)).contains(&cost) && cost.fract() == 0.0;
            let cost = known.then_some(cost as u32);
            (text(password)?, cost.ok_or_else(|| format!("the cost is a number from 4 to {COST_MAX}"))?)
        }
        _ => return Err("it needs a text, and perhaps a cost".to_string()),
    };
    // What is longer would not count.
    if password.len() > 72 {
        return Err("a password has at most 72 bytes".to_string());
    }
    let hash = bcrypt::hash_with_result(password, cost).map_err(|error| error.to_string())?;
    Ok(Value::from(hash.format_for_version(bcrypt::Version::TwoA)))
}

/// The text that a ciphertext in base64 holds, encrypted for the private key in PEM. No error tells why it
/// cannot be decrypted.
pub fn decrypt(arguments: &[Value]) -> Result<Value, String> {
    let [ciphertext, key] = arguments else { return Err("it needs a ciphertext and a key".to_string()) };
    let ciphertext = base64::engine::general_purpose::STANDARD.decode(text(ciphertext)?);
    let ciphertext = ciphertext.map_err(|_| "the ciphertext is not base64".to_string())?;
    let key = text(key)?;
    let key = PrivateKey::from_pkcs1_pem(&key).or_else(|_| PrivateKey::from_pkcs8_pem(&key).map_err(|_| ()));
    let key = key.map_err(|()| "the key is no private key of RSA in PEM, without a password".to_string())?;
    let failed = || "the ciphertext is not for this key".to_string();
    let plain = key.decrypt(Pkcs1v15Encrypt, &ciphertext).map_err(|_| failed())?;
    String::from_utf8(plain).map(Value::from).map_err(|_| failed())
}

/// A random UUID.
pub fn uuidv4(arguments: &[Value]) -> Result<Value, String> {
    match arguments {
        [] => Ok(Value::from(Uuid::new_v4().to_string())),
        _ => Err("it needs no arguments".to_string()),
    }
}

/// The UUID of a name in a namespace: `dns`, `url`, `oid`, `x500`, or a UUID.
pub fn uuidv5(arguments: &[Value]) -> Result<Value, String> {
    let [namespace, name] = arguments else { return Err("it needs a namespace and a name".to_string()) };
    let (namespace, name) = (text(namespace)?, text(name)?);
    let namespace = match namespace.as_str() {
        "dns" => Uuid::NAMESPACE_DNS,
        "url" => Uuid::NAMESPACE_URL,
        "oid" => Uuid::NAMESPACE_OID,
        "x500" => Uuid::NAMESPACE_X500,
        other => Uuid::parse_str(other)
            .map_err(|_| format!("\"{other}\" is neither dns, url, oid or x500 nor a UUID"))?,
    };
    Ok(Value::from(Uuid::new_v5(&namespace, name.as_bytes()).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_hashed() {
        let hash = |arguments: &[Value]| bcrypt(arguments);
        let [one, two] = [(); 2].map(|()| hash(&["secret".into(), 4.into()]).expect("a hash"));
        assert_ne!(one, two);
        let one = one.as_str().expect("a text");
        assert!(one.starts_with("$2a$04$") && bcrypt::verify("secret", one).expect("a hash"), "{one}");
        assert!(!bcrypt::verify("other", one).expect("a hash"));
        for wrong in [&[][..], &["x".into(), 3.into()], &["x".into(), 31.into()], &["x".repeat(73).into()]] {
            assert!(hash(wrong).is_err(), "{wrong:?}");
        }
        // Of Go's golang.org/x/crypto/bcrypt, as docker-buildx 0.29.1 gives it for "abc".
        let of_go = "$2a$10$B5/8TjfGANFbDTsdLjqDneeO/HALyEVziNG7IGwPrdwQwpxz9RcrS";
        assert!(bcrypt::verify("abc", of_go).expect("a hash"));
    }

    #[test]
    fn random_uuids_differ() {
        let one = uuidv4(&[]).expect("a UUID");
        assert_ne!(one, uuidv4(&[]).expect("a UUID"));
        let parsed = Uuid::parse_str(one.as_str().expect("a text")).expect("a UUID");
        assert_eq!(parsed.get_version_num(), 4);
    }
}
