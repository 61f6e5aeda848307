//! JSON Web Tokens, checked with public keys from a file (JWKS). How signatures are verified is the business of `ring`,
//! which the rest of this program has anyway; how tokens are read, that of `jsonwebtoken`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result as JwtResult};
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::signature::{Error as SignatureError, Verifier};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey, Validation, decode, decode_header,
};
use ring::signature as crypto;
use serde_json::Value;

use crate::watched::FileProblem;

/// How far the clock of who issues tokens may be from ours, in seconds.
const CLOCK_SKEW_SECONDS: u64 = 60;

/// The keys, and for whom and by whom tokens have to be.
#[derive(Debug)]
pub(super) struct Keys {
    keys: JwkSet,
    audience: Vec<String>,
    issuer: Option<String>,
}

/// What a token says that was found to be right.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Claims {
    pub(super) all: Value,
    /// From when on it is not valid any more.
    pub(super) expires: SystemTime,
    /// The key that it was signed with.
    pub(super) key: Jwk,
}

impl Claims {
    /// Who it is about.
    pub(super) fn subject(&self) -> Option<&str> {
        self.all.get("sub").and_then(Value::as_str)
    }
}

impl Keys {
    /// Reads a JWKS file.
    ///
    /// # Errors
    /// If it is none, has no key, or one that is no public key.
    pub(super) fn read(
        text: &[u8],
        file: &str,
        audience: &[String],
        issuer: Option<&str>,
    ) -> Result<Self, FileProblem> {
        // Where another part of the program has chosen one already, that is used.
        let _chosen = PROVIDER.install_default();
        let problem = |problem: &str| FileProblem::one(format!("`{file}` {problem}"));
        let keys: JwkSet = serde_json::from_slice(text)
            .map_err(|error| problem(&format!("is no set of keys (JWKS): {error}")))?;
        if keys.keys.is_empty() {
            return Err(problem("has no keys"));
        }
        let mut usable = Vec::new();
        for key in keys.keys {
            let id = key.common.key_id.as_deref().unwrap_or("without an id");
            match DecodingKey::from_jwk(&key).map(|key| key.family()) {
                Ok(AlgorithmFamily::Rsa | AlgorithmFamily::Ec | AlgorithmFamily::Ed) => usable.push(key),
                // Whoever can read it could sign as well.
                Ok(AlgorithmFamily::Hmac) => {
                    return Err(problem(&format!("has a key that is no public key: {id}")));
                }
                // Those who issue tokens publish keys for other uses beside.
                Err(error) => tracing::info!(file, key = id, %error, "a key is left out that cannot be used"),
            }
        }
        if usable.is_empty() {
            return Err(problem("has no key that can be used"));
        }
        let keys = JwkSet { keys: usable };
        Ok(Self { keys, audience: audience.to_vec(), issuer: issuer.map(str::to_owned) })
    }

    /// What a token says, if all about it is right.
    ///
    /// # Errors
    /// What is not right, for the log.
    pub(super) fn verify(&self, token: &str) -> Result<Claims, String> {
        // `none`, and whatever else is no algorithm, is refused here.
        let header = decode_header(token).map_err(|error| error.to_string())?;
        let fits = |key: &&Jwk| header.kid.is_none() || key.common.key_id == header.kid;
        let may_sign = |key: &&Jwk| matches!(key.common.public_key_use, None | Some(PublicKeyUse::Signature));
        let mut refused = "it is signed with no key that is known".to_owned();
        for key in self.keys.keys.iter().filter(fits).filter(may_sign) {
            match self.verify_with(key, header.alg, token) {
                Ok(claims) => return Ok(claims),
                Err(why) => refused = why,
            }
        }
        Err(refused)
    }

    fn verify_with(&self, jwk: &Jwk, algorithm: Algorithm, token: &str) -> Result<Claims, String> {
        let key = DecodingKey::from_jwk(jwk).map_err(|error| error.to_string())?;
        let is_for = jwk.common.key_algorithm.is_none_or(|of_key| of_key == algorithm.into());
        if !is_for || !key.family().algorithms().contains(&algorithm) {
            return Err("it is signed in a way that its key is not for".to_owned());
        }
        let mut validation = Validation::new(algorithm);
        validation.leeway = CLOCK_SKEW_SECONDS;
        validation.validate_nbf = true;
        validation.set_audience(&self.audience);
        let mut required = vec!["exp", "aud"];
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        let decoded = decode::<Value>(token, &key, &validation).map_err(|error| error.to_string())?;
        let expires = decoded.claims.get("exp").and_then(Value::as_f64).unwrap_or_default();
        let expires =
            Duration::try_from_secs_f64(expires).map_err(|_beyond| "`exp` is no moment".to_owned())?;
        let expires = UNIX_EPOCH.checked_add(expires + Duration::from_secs(CLOCK_SKEW_SECONDS));
        let expires = expires.ok_or("`exp` is no moment")?;
        Ok(Claims { all: decoded.claims, expires, key: jwk.clone() })
    }

    /// Whether tokens that are signed with this key are still taken.
    pub(super) fn has(&self, key: &Jwk) -> bool {
        self.keys.keys.contains(key)
    }
}

/// Verifies signatures with `ring`.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: no_signer,
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// This program signs nothing.
fn no_signer(_: &Algorithm, _: &EncodingKey) -> JwtResult<Box<dyn JwtSigner>> {
    Err(ErrorKind::InvalidAlgorithm.into())
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> JwtResult<Box<dyn JwtVerifier>> {
    let method = method(*algorithm).ok_or(ErrorKind::InvalidAlgorithm)?;
    if !key.family().algorithms().contains(algorithm) {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    Ok(Box::new(OfRing { algorithm: *algorithm, method, key: key.clone() }))
}

/// How a kind of signature is verified.
#[derive(Clone, Copy)]
enum Method {
    Rsa(&'static crypto::RsaParameters),
    Curve(&'static dyn crypto::VerificationAlgorithm),
}

/// None for those that are not taken.
fn method(algorithm: Algorithm) -> Option<Method> {
    Some(match algorithm {
        Algorithm::RS256 => Method::Rsa(&crypto::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Method::Rsa(&crypto::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Method::Rsa(&crypto::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Method::Rsa(&crypto::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Method::Rsa(&crypto::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Method::Rsa(&crypto::RSA_PSS_2048_8192_SHA512),
        Algorithm::ES256 => Method::Curve(&crypto::ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => Method::Curve(&crypto::ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => Method::Curve(&crypto::ED25519),
        // Secrets, and whatever is to come.
        _ => return None,
    })
}

struct OfRing {
    algorithm: Algorithm,
    method: Method,
    key: DecodingKey,
}

impl Verifier<Vec<u8>> for OfRing {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), SignatureError> {
        let verified = match (self.method, self.key.kind()) {
            (Method::Rsa(parameters), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                crypto::RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            (Method::Rsa(parameters), DecodingKeyKind::SecretOrDer(key)) => {
                crypto::UnparsedPublicKey::new(parameters, key).verify(message, signature)
            }
            (Method::Curve(algorithm), DecodingKeyKind::SecretOrDer(key)) => {
                crypto::UnparsedPublicKey::new(algorithm, key).verify(message, signature)
            }
            (Method::Curve(_), DecodingKeyKind::RsaModulusExponent { .. }) => Err(ring::error::Unspecified),
        };
        verified.map_err(|_unspecified| SignatureError::new())
    }
}

impl JwtVerifier for OfRing {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
