//! Tokens, users and passwords.

use arangodb_double::Access;

use super::scripted::answer;
use super::*;

const LOGIN: &str = "POST /_open/auth";

#[tokio::test]
async fn one_login_serves_all_and_so_does_one_after_tokens_have_become_worthless() {
    let (double, database) = double().await;
    for logins in 0..3 {
        let answers = (0..20).map(|_| version(&database));
        for answer in futures::future::join_all(answers).await {
            assert_eq!(answer.unwrap()["server"], "arango");
        }
        assert_eq!(requests(&double, LOGIN), logins, "login after the one of the creation");
        match logins {
            0 => double.expire_tokens(),
            _ => double.restart(),
        }
    }
    double.assert_known();
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires() {
    let (double, database) = double().await;
    double.faults().token_life = Duration::from_secs(5);
    double.expire_tokens();
    version(&database).await.unwrap();
    double.reset_counters();
    let (mut asked, since) = (0, Instant::now());
    while requests(&double, LOGIN) == 0 {
        assert!(since.elapsed() < DEADLINE);
        version(&database).await.unwrap();
        asked += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let lived = since.elapsed();
    assert!(lived > Duration::from_millis(3_500) && lived < Duration::from_secs(5), "{lived:?}");
    assert_eq!(
        requests(&double, "GET /_api/version"),
        asked,
        "none was refused, which it would have been sent again"
    );
}

#[tokio::test]
async fn a_token_is_good_to_its_end_if_it_cannot_be_renewed() {
    let logins = std::sync::atomic::AtomicUsize::new(0);
    let token = |life: u64| {
        use base64::Engine as _;
        let claims = json!({"exp": 1_700_000_000 + life, "iat": 1_700_000_000.25}).to_string();
        format!("h.{}.s", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims))
    };
    let server = Scripted::start(move |request| match request.starts_with(LOGIN) {
        true if logins.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 => {
            answer("200 OK", &json!({"jwt": token(2)}).to_string())
        }
        true => answer("503 Service Unavailable", "later"),
        false => answer("200 OK", r#"{"server":"arango"}"#),
    })
    .await;
    let address = Address::parse(&server.url).unwrap().with_credentials("u", "p");
    let database = Server::new(&address).unwrap().database("tests").with_patience(Duration::ZERO);
    let since = Instant::now();
    let failure = loop {
        match version(&database).await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(failure) => break failure,
        }
        assert!(since.elapsed() < DEADLINE);
    };
    let lived = since.elapsed();
    assert!(lived > Duration::from_millis(1_600), "{lived:?}: {failure}");
    let tried = server.requests.lock().unwrap().iter().filter(|it| it.starts_with(LOGIN)).count();
    assert!(tried > 2, "it was tried when it was time, {tried}");
    assert!(failure.is_of_login() && failure.is_certainly_not_executed(), "{failure:?}");
}

#[tokio::test]
async fn who_is_nobody_or_has_no_rights_is_told_so_in_one_line() {
    let (double, _) = double().await;
    double.add_user("guest", "g");
    let anonymous = Address::parse(&double.url()).unwrap();
    let shown = anonymous.to_string();
    for (address, kind, line) in [
        (
            anonymous.clone().with_credentials("guest", "wrong"),
            Kind::NotLoggedIn,
            format!(
                "login of guest at {shown}: Wrong credentials (errorNum 401, status 401); check user and password"
            ),
        ),
        (
            anonymous.clone(),
            Kind::NotLoggedIn,
            format!(
                "GET _api/version in tests at {shown}: the server wants a login; give a user and a password"
            ),
        ),
        (
            anonymous.clone().with_credentials("guest", "g"),
            Kind::NotAllowed,
            format!(
                "GET _api/version in tests at {shown}: user guest may not do this; give that user the rights, or use \
                 another one"
            ),
        ),
    ] {
        let failure = version(&Server::new(&address).unwrap().database("tests")).await.unwrap_err();
        assert_eq!((failure.kind(), failure.to_string()), (kind, line));
        assert!(failure.is_certainly_not_executed());
    }
    double.grant_database("guest", "tests", Access::Read);
    let guest = Server::new(&anonymous.with_credentials("guest", "g")).unwrap().database("tests");
    version(&guest).await.unwrap();
    let failure = guest.create_collection("b", false).await.unwrap_err();
    assert_eq!(
        (failure.kind(), failure.status(), failure.error_num()),
        (Kind::NotAllowed, Some(403), Some(11))
    );
    assert!(failure.to_string().contains("give the user the rights"), "{failure}");
}

#[tokio::test]
async fn a_server_without_logins_is_sent_no_credentials() {
    let (double, database) = double().await;
    double.faults().authentication = false;
    double.expire_tokens();
    let other = Server::new(&address(&double)).unwrap().database("tests");
    version(&other).await.unwrap();
    assert_eq!(requests(&double, LOGIN), 1);
    // It wants logins again.
    double.faults().authentication = true;
    version(&other).await.unwrap();
    version(&database).await.unwrap();
    assert_eq!(requests(&double, LOGIN), 3);
    double.assert_known();
}

#[tokio::test]
async fn user_and_password_are_sent_where_logins_are_not_passed_on() {
    let server = Scripted::start(|request| match request {
        _ if request.starts_with(LOGIN) => answer("404 Not Found", "<html>not found</html>"),
        _ if request.contains("authorization: Basic dTpww6Q=\r\n") => {
            answer("200 OK", r#"{"server":"arango"}"#)
        }
        _ => answer("401 Unauthorized", r#"{"code":401,"error":true,"errorMessage":"no","errorNum":11}"#),
    })
    .await;
    let address = Address::parse(&server.url).unwrap().with_credentials("u", "pä");
    let database = Server::new(&address).unwrap().database("tests");
    version(&database).await.unwrap();
    version(&database).await.unwrap();
    assert_eq!(server.requests.lock().unwrap().len(), 3, "one login and two requests");
}

#[tokio::test]
async fn an_answer_without_a_token_is_not_shown() {
    let server = Scripted::start(|_| answer("200 OK", r#"{"access_token":"a secret"}"#)).await;
    let address = Address::parse(&server.url).unwrap().with_credentials("u", "p");
    let failure = version(&Server::new(&address).unwrap().database("tests")).await.unwrap_err();
    assert_eq!(failure.kind(), Kind::NotArango);
    assert!(failure.is_certainly_not_executed() && !failure.to_string().contains("secret"), "{failure}");
}
