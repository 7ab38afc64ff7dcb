//! Who may call what, for every route there is.

use super::harness::{versioned, TestHub};
use ostler_core::auth::BUILT_IN_POLICIES;
use ostler_core::sas::sign;
use ostler_wire::rest::route::{Access, Endpoint, ENDPOINTS};

fn line(endpoint: &Endpoint) -> String {
    versioned(&format!("{} {}", endpoint.method.as_str(), endpoint.path().replace(['{', '}'], "")))
}

/// Routes that a test may not go through, because their answer does not end.
fn answers_at_once(endpoint: &Endpoint) -> bool {
    endpoint.name != "events"
}

#[tokio::test]
async fn every_route_lets_in_exactly_the_policies_with_its_right() {
    let hub = TestHub::patient().await;
    let mut may = String::new();
    for endpoint in ENDPOINTS.iter().filter(|endpoint| answers_at_once(endpoint)) {
        let mut allowed = Vec::new();
        for (policy, rights) in BUILT_IN_POLICIES {
            let answer = hub.call(policy, &line(endpoint), &[], "").await;
            let entered = answer.status != 401;
            assert_eq!(
                entered,
                endpoint.access.allows(rights),
                "{endpoint:?} with {policy}: {}",
                answer.body
            );
            if entered {
                allowed.push(policy);
            }
        }
        may.push_str(&format!("{} {}: {}\n", endpoint.method.as_str(), endpoint.path(), allowed.join(" ")));
    }
    insta::assert_snapshot!("access", may);
}

#[tokio::test]
async fn without_a_token_only_open_routes_answer() {
    let hub = TestHub::patient().await;
    let mut client = hub.connect().await;
    for endpoint in ENDPOINTS {
        let answer = client.call(&line(endpoint), &[], "").await;
        assert_eq!(answer.status == 401, endpoint.access != Access::Open, "{endpoint:?}: {}", answer.body);
        if answer.status == 401 {
            assert!(
                answer.body.contains("ErrorCode:IotHubUnauthorizedAccess;")
                    || endpoint.name.ends_with("Method")
            );
            assert_eq!(answer.header("iothub-errorcode"), Some("IotHubUnauthorizedAccess"));
        }
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_told_where_that_is_harmless() {
    let hub = TestHub::patient().await;
    let app = hub.running.app();
    let key = app.hub.policy("service").unwrap().primary;
    let now = app.hub.now();
    let later = now.plus_secs(60);
    let tokens = [
        ("good", sign("localhost", &key, later, Some("service"))),
        ("a port and capitals", sign("LOCALHOST:443", &key, later, Some("service"))),
        ("for this path", sign("localhost/twins", &key, later, Some("service"))),
        ("for another path", sign("localhost/devices", &key, later, Some("service"))),
        ("for another hub", sign("elsewhere", &key, later, Some("service"))),
        ("just over, within the skew", sign("localhost", &key, now.plus_secs(-60), Some("service"))),
        ("expired", sign("localhost", &key, now.plus_secs(-1000), Some("service"))),
        ("of nobody", sign("localhost", &key, later, Some("nobody"))),
        ("with another key", sign("localhost", &key, later, Some("iothubowner"))),
        ("of a device", sign("localhost/devices/d", &key, later, None)),
        ("cut", "SharedAccessSignature sr=localhost".to_owned()),
        ("of another kind", "Bearer abc".to_owned()),
    ];
    let mut answers = String::new();
    for (name, token) in &tokens {
        let request = versioned("GET /twins/d");
        let answer = hub.connect().await.call(&request, &[("Authorization", token)], "").await;
        let text = answer.body.split("\",\"ExceptionMessage").next().unwrap().to_owned();
        answers.push_str(&format!(
            "{name}: {} {}\n",
            answer.status,
            text.replace("1000 s", "N s").replace("1001 s", "N s")
        ));
    }
    insta::assert_snapshot!("tokens", answers);
}

#[tokio::test]
async fn who_fails_too_often_is_told_less_but_a_good_token_still_works() {
    let hub = TestHub::start_with(|config| config.limits.sign_in_failure_burst = 3).await;
    let request = versioned("GET /devices");
    let mut client = hub.connect().await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let wrong = [("Authorization", "SharedAccessSignature sr=localhost&sig=x&se=1&skn=service")];
        statuses.push(client.call(&request, &wrong, "").await.status);
    }
    assert_eq!(statuses, [401, 401, 401, 429]);
    let good = hub.token("iothubowner");
    assert_eq!(client.call(&request, &[("Authorization", &good)], "").await.status, 200);
}

#[tokio::test]
async fn a_connection_follows_changes_of_token_and_policy() {
    let hub = TestHub::start().await;
    let mut client = hub.connect().await;
    let request = versioned("GET /statistics/devices");
    let mut status = async |token: &str| client.call(&request, &[("Authorization", token)], "").await.status;
    let (owner, device) = (hub.token("iothubowner"), hub.token("device"));
    assert_eq!(status(&owner).await, 200);
    assert_eq!(status(&device).await, 401, "another token is judged anew");
    assert_eq!(status(&owner).await, 200);
    let narrow = hub.token_for("localhost/statistics", "iothubowner");
    assert_eq!(status(&narrow).await, 200);

    let rotated =
        hub.call("iothubowner", "POST /ostler/v1/policies/iothubowner/rotate?key=primary", &[], "").await;
    assert_eq!(rotated.status, 200);
    assert_eq!(status(&owner).await, 401, "the remembered grant ends with the policy's key");
    assert_eq!(status(&hub.token("iothubowner")).await, 200);
}

#[tokio::test]
async fn a_token_for_some_paths_opens_no_others_on_the_same_connection() {
    let hub = TestHub::start().await;
    let mut client = hub.connect().await;
    let narrow = hub.token_for("localhost/statistics", "iothubowner");
    let auth = [("Authorization", narrow.as_str())];
    assert_eq!(client.call(&versioned("GET /statistics/devices"), &auth, "").await.status, 200);
    assert_eq!(client.call(&versioned("GET /devices"), &auth, "").await.status, 401);
}
