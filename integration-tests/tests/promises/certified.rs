//! Who may do what, with JSON Web Tokens and with client certificates; and from which web pages a broker is reached.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use elf_runtime::{Code, Error, Mycelium};
use integration_tests::{Authority, DAY, Tester, Worker};
use mycelium_proto::{reason, v1};
use mycelium_server::store::MemoryStore;
use mycelium_server::{Access, AccessFiles, Broker, Config, RunningBroker, Tls, TlsFiles};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

const IDENTITIES: &str = r#"
[[claim]]
name = "operators"
claim = "realm.groups"
value = "ops"
roles = ["operate"]

[[certificate]]
name = "worker"
san = "spiffe://example.org/elves/*"
roles = ["serve"]
elves = ["adder"]
"#;

/// Who issues tokens.
struct Issuer {
    key: EcdsaKeyPair,
    id: &'static str,
}

impl Issuer {
    fn new(id: &'static str) -> anyhow::Result<Self> {
        let (random, algorithm) = (ring::rand::SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).ok().context("a key")?;
        let key = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).ok().context("a key")?;
        Ok(Self { key, id })
    }

    /// Its public key, as a JWK.
    fn public(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        json!({ "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.id, "x": x, "y": y })
    }

    fn token(&self, header: &Value, claims: &Value) -> anyhow::Result<String> {
        let [header, claims] = [header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
        let text = format!("{header}.{claims}");
        let signed =
            self.key.sign(&ring::rand::SystemRandom::new(), text.as_bytes()).ok().context("signing")?;
        Ok(format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(signed.as_ref())))
    }

    fn header(&self) -> Value {
        json!({ "alg": "ES256", "kid": self.id, "typ": "JWT" })
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn claims(change: impl FnOnce(&mut Value)) -> Value {
    let mut claims = json!({
        "sub": "ada", "aud": "mycelium", "iss": "https://issuer.example", "exp": now() + 600, "realm": { "groups": ["x", "ops"] },
    });
    change(&mut claims);
    claims
}

async fn serve(folder: &Path, keys: &Value, tls: Option<TlsFiles>) -> anyhow::Result<RunningBroker> {
    let [identities, jwks] = ["tokens.toml", "keys.json"].map(|name| folder.join(name));
    std::fs::write(&identities, IDENTITIES)?;
    std::fs::write(&jwks, keys.to_string())?;
    let mut files = AccessFiles::new(identities);
    files.jwt_keys = Some(jwks);
    files.jwt_audience = vec!["mycelium".to_owned()];
    files.jwt_issuer = Some("https://issuer.example".to_owned());
    let config = Config { reload_interval: Duration::from_millis(50), ..Config::default() };
    let broker = Broker::with_store(config, Arc::new(MemoryStore::new()))?;
    let broker = broker.with_access(Access::from_files(files)?);
    let broker = match tls {
        Some(files) => broker.with_tls(Tls::from_files(files)?),
        None => broker,
    };
    Ok(broker.bind("127.0.0.1:0").await?)
}

async fn code(url: &str, token: String) -> anyhow::Result<Option<Code>> {
    let client = Mycelium::builder(url).patience(Duration::ZERO).token(token).connect_lazy()?;
    match client.list_pauses(v1::ListPausesRequest::default()).await {
        Ok(_) => Ok(None),
        Err(Error::Refused { code, .. }) => Ok(Some(code)),
        Err(other) => Err(other.into()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn web_tokens_are_taken_when_all_about_them_is_right() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (issuer, other) = (Issuer::new("one")?, Issuer::new("one")?);
    let broker = serve(dir.path(), &json!({ "keys": [issuer.public()] }), None).await?;
    let (header, refused) = (issuer.header(), Some(Code::Unauthenticated));
    let sign = |claims: &Value| issuer.token(&header, claims);
    for (what, token, expected) in [
        ("right", sign(&claims(|_| ()))?, None),
        ("a clock that is 30 s behind", sign(&claims(|claims| claims["exp"] = json!(now() - 30)))?, None),
        ("one of several audiences", sign(&claims(|claims| claims["aud"] = json!(["a", "mycelium"])))?, None),
        ("expired", sign(&claims(|claims| claims["exp"] = json!(now() - 120)))?, refused),
        ("not valid yet", sign(&claims(|claims| claims["nbf"] = json!(now() + 120)))?, refused),
        ("no end", sign(&claims(|claims| claims["exp"] = Value::Null))?, refused),
        ("an end that is a text", sign(&claims(|claims| claims["exp"] = json!("9999999999")))?, refused),
        ("another audience", sign(&claims(|claims| claims["aud"] = json!("other")))?, refused),
        ("no audience", sign(&claims(|claims| claims["aud"] = Value::Null))?, refused),
        ("another issuer", sign(&claims(|claims| claims["iss"] = json!("https://evil.example")))?, refused),
        ("no issuer", sign(&claims(|claims| claims["iss"] = Value::Null))?, refused),
        ("claims of nobody", sign(&claims(|claims| claims["realm"] = json!({})))?, refused),
        ("another key of the same name", other.token(&header, &claims(|_| ()))?, refused),
        ("an unknown key", issuer.token(&json!({ "alg": "ES256", "kid": "two" }), &claims(|_| ()))?, refused),
        ("alg none", issuer.token(&json!({ "alg": "none", "kid": "one" }), &claims(|_| ()))?, refused),
        (
            "a secret made of the public key",
            issuer.token(&json!({ "alg": "HS256", "kid": "one" }), &claims(|_| ()))?,
            refused,
        ),
        ("another curve", issuer.token(&json!({ "alg": "ES384", "kid": "one" }), &claims(|_| ()))?, refused),
        ("another family", issuer.token(&json!({ "alg": "RS256", "kid": "one" }), &claims(|_| ()))?, refused),
        ("no JSON", "a.b.c".to_owned(), refused),
    ] {
        let found = code(&broker.url(), token).await?;
        ensure!(found == expected, "{what}: {found:?}");
    }
    let unsigned = sign(&claims(|_| ()))?;
    let unsigned = unsigned.rsplit_once('.').context("a signature")?.0.to_owned() + ".";
    ensure!(code(&broker.url(), unsigned).await? == refused, "without a signature");
    broker.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_replaced_under_a_broker_that_runs() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (old, new) = (Issuer::new("old")?, Issuer::new("new")?);
    let broker = serve(dir.path(), &json!({ "keys": [old.public()] }), None).await?;
    let token = |issuer: &Issuer| issuer.token(&issuer.header(), &claims(|_| ()));
    ensure!(code(&broker.url(), token(&old)?).await?.is_none());
    ensure!(code(&broker.url(), token(&new)?).await? == Some(Code::Unauthenticated));
    std::fs::write(dir.path().join("keys.json"), json!({ "keys": [new.public()] }).to_string())?;
    integration_tests::until("the new key", || async {
        let (old, new) = (code(&broker.url(), token(&old)?).await?, code(&broker.url(), token(&new)?).await?);
        Ok((old == Some(Code::Unauthenticated) && new.is_none()).then_some(()))
    })
    .await?;
    broker.stop().await?;
    for (keys, problem) in [
        (json!({ "keys": [] }), "has no keys"),
        (json!({ "keys": [{ "kty": "oct", "k": "c2VjcmV0" }] }), "no public key"),
        (json!([]), "no set of keys"),
    ] {
        let told = serve(dir.path(), &keys, None).await.err().context("it is taken")?.to_string();
        ensure!(told.contains(problem), "{problem}: {told}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_clients_say_who_they_are() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (servers, clients, others) = (Authority::new()?, Authority::new()?, Authority::new()?);
    let ca = servers.write(dir.path(), "ca")?;
    let server = servers.pair(&["127.0.0.1"])?.write(dir.path(), "server")?;
    let mut files = TlsFiles::new(&server.certificate, &server.key);
    files.client_authorities = Some(clients.write(dir.path(), "clients")?);
    let keys = json!({ "keys": [Issuer::new("one")?.public()] });
    let broker = serve(dir.path(), &keys, Some(files)).await?;
    let name = "spiffe://example.org/elves/7";
    let now = SystemTime::now();
    let pair = |name: &str, pair: integration_tests::Pair| pair.write(dir.path(), name);
    let own = pair("own", clients.pair_uri(name)?)?;
    let foreign = pair("foreign", others.pair_uri(name)?)?;
    let unknown = pair("unknown", clients.pair_uri("spiffe://example.org/others/7")?)?;
    let expired = pair("expired", clients.pair_valid(&["a.example"], now - 9 * DAY, now - DAY)?)?;
    let client = |files: Option<&integration_tests::PairFiles>| {
        let builder = Mycelium::builder(broker.url()).patience(Duration::ZERO).authorities(&ca);
        match files {
            Some(files) => builder.certificate(&files.certificate, &files.key).connect_lazy(),
            None => builder.connect_lazy(),
        }
    };
    let status = async |client: Mycelium| client.get_status(v1::GetStatusRequest::default()).await;
    ensure!(status(client(Some(&own))?).await.is_ok());
    let worker = Worker::start(client(Some(&own))?.serve().elf("adder", Tester::default())).await?;
    ensure!(Worker::start(client(Some(&own))?.serve().elf("other", Tester::default())).await.is_err());
    worker.stop().await?;
    let reason_of = |refused: Error| refused.reason().map(str::to_owned);
    let nobody = status(client(None)?).await.err().context("it is let in")?;
    ensure!(reason_of(nobody).as_deref() == Some(reason::CREDENTIALS_MISSING));
    let nobody = status(client(Some(&unknown))?).await.err().context("it is let in")?;
    ensure!(reason_of(nobody).as_deref() == Some(reason::CREDENTIALS_REFUSED));
    // An authority that is taken no more: nor are those who came while it was.
    let is_in = client(Some(&own))?;
    ensure!(status(is_in.clone()).await.is_ok());
    others.write(dir.path(), "clients")?;
    let refused = integration_tests::until("its certificate to be refused", || async {
        Ok(status(is_in.clone()).await.err())
    })
    .await?;
    ensure!(refused.reason() == Some(reason::CREDENTIALS_REFUSED), "{refused:?}");
    ensure!(status(client(Some(&foreign))?).await.is_ok(), "that of the new one");
    clients.write(dir.path(), "clients")?;
    integration_tests::until("the authority to be taken again", || async {
        Ok(status(is_in.clone()).await.ok().map(drop))
    })
    .await?;
    for (files, what) in
        [(&foreign, "it is not signed by an authority that the broker trusts"), (&expired, "it has expired")]
    {
        // Some would be told by luck alone.
        for _ in 0..20 {
            let refused = status(client(Some(files))?).await.err().context(what)?;
            let Error::Unreachable { source, .. } = &refused else { anyhow::bail!("{what}: {refused:?}") };
            let shown = files.certificate.display();
            let begin =
                format!("the broker does not take the client certificate `{shown}` (MYCELIUM_CLIENT_CERT): ");
            let told = source.to_string();
            ensure!(told.starts_with(&begin) && told.contains(what), "{what}: {told}");
        }
    }
    broker.stop().await?;
    Ok(())
}

/// A page whose name was pointed at this machine, and pages that call from elsewhere, do not reach a broker that asks nobody
/// who they are.
#[tokio::test(flavor = "multi_thread")]
async fn no_web_page_reaches_a_broker_without_identities() -> anyhow::Result<()> {
    let broker = Broker::in_memory()?;
    let broker = broker.with_access(Access::unrestricted().with_allowed_hosts(["broker.lan".to_owned()]));
    let broker = broker.bind("127.0.0.1:0").await?;
    let port = broker.address().port();
    let call = async |name: &str, origin: Option<&str>| {
        let origin_of_calls = format!("http://{name}").parse()?;
        let endpoint = tonic::transport::Endpoint::from_shared(broker.url())?.origin(origin_of_calls);
        let mut client = v1::mycelium_service_client::MyceliumServiceClient::new(endpoint.connect().await?);
        let mut request = tonic::Request::new(v1::GetStatusRequest::default());
        if let Some(origin) = origin {
            request.metadata_mut().insert("origin", origin.parse()?);
        }
        anyhow::Ok(client.get_status(request).await.err().map(|status| status.code()))
    };
    let here = format!("localhost:{port}");
    for name in [&here, &format!("127.0.0.1:{port}"), &format!("broker.lan:{port}")] {
        ensure!(call(name, None).await?.is_none(), "{name}");
    }
    ensure!(call(&here, Some(&format!("http://{here}"))).await?.is_none(), "its own page");
    let denied = Some(Code::PermissionDenied);
    ensure!(call(&format!("rebound.example:{port}"), None).await? == denied, "a rebound name");
    ensure!(
        call(&format!("rebound.example:{port}"), Some(&format!("http://rebound.example:{port}"))).await?
            == denied,
        "a rebound name and its own origin"
    );
    for origin in ["https://evil.example", "http://localhost:1", "null"] {
        ensure!(call(&here, Some(origin)).await? == denied, "{origin}");
    }
    broker.stop().await?;
    Ok(())
}
