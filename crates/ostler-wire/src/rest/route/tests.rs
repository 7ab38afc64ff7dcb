//! The table of routes, and what paths and verbs come to.

use super::*;
use proptest::prelude::*;

fn parse(line: &str) -> Result<Route, RouteError> {
    let (verb, path) = line.split_once(' ').unwrap();
    Route::parse(Method::parse(verb), path, None)
}

/// The row's name and the call, or the error, of a request line.
fn check(line: &str, expected: &str) {
    let got = match parse(line) {
        Ok(route) => format!("{} {:?}", route.endpoint.name, route.call),
        Err(error) => error.to_string(),
    };
    assert_eq!(got, expected, "{line}");
}

#[test]
fn the_table_is_sound() {
    for (i, endpoint) in ENDPOINTS.iter().enumerate() {
        let others = &ENDPOINTS[..i];
        assert!(others.iter().all(|other| other.name != endpoint.name), "{endpoint:?}: name taken");
        assert!(endpoint.path.len() <= MAX_SEGMENTS, "{endpoint:?}: too long");
        let variables = endpoint.path.iter().filter(|part| matches!(part, Part::Variable(_))).count();
        let fits = match endpoint.build {
            Build::Plain(_) => variables == 0,
            Build::Device(_) | Build::Name(_) => variables == 1,
            Build::Entity(_) | Build::DeviceName(_) => (1..=2).contains(&variables),
            Build::Tail(_) => variables == 0 && matches!(endpoint.path.last(), Some(Part::Rest(_))),
            Build::Missing(_) => variables <= MAX_CAPTURES,
        };
        assert!(fits, "{endpoint:?}: variables do not fit the call");
    }
}

#[test]
fn every_row_is_reached_by_its_own_path() {
    for endpoint in ENDPOINTS {
        let path = endpoint.path().replace(['{', '}'], "");
        let route = Route::parse(endpoint.method, &path, None).unwrap();
        assert_eq!(route.endpoint.name, endpoint.name, "{path}");
        let slashed =
            Route::parse(endpoint.method, &format!("{}/", path.trim_end_matches('/')), None).unwrap();
        assert_eq!(slashed.endpoint.name, endpoint.name, "{path}/");
        let shouted = Route::parse(endpoint.method, &path.to_ascii_uppercase(), None).unwrap();
        assert_eq!(shouted.endpoint.name, endpoint.name, "{path} in capitals");
    }
}

/// The table as `docs/rest.md` shows it.
fn documented() -> String {
    let mut lines = String::from("| verb | path | right | |\n|---|---|---|---|\n");
    for endpoint in ENDPOINTS.iter().filter(|endpoint| endpoint.surface == Surface::Azure) {
        let (verb, path, right) = (endpoint.method.as_str(), endpoint.path(), endpoint.access.describe());
        let missing =
            endpoint.missing_feature().map_or(String::new(), |feature| format!("not yet: {feature}"));
        lines.push_str(&format!("| {verb} | `{path}` | {right} | {missing} |\n"));
    }
    lines
}

#[test]
fn the_documentation_has_every_route() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/rest.md");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains(&documented()), "docs/rest.md should contain\n{}", documented());
    for endpoint in ENDPOINTS {
        let (verb, path) = (endpoint.method.as_str(), endpoint.path());
        assert!(
            page.contains(verb) && page.contains(&format!("{path}`")),
            "{endpoint:?} is not in docs/rest.md"
        );
    }
}

#[test]
fn rights() {
    use Access::*;
    let may = |access: Access, rights: Rights| access.allows(rights);
    assert!(may(RegistryRead, Rights::REGISTRY_WRITE) && !may(RegistryWrite, Rights::REGISTRY_READ));
    assert!(may(RegistryReadOrServiceConnect, Rights::SERVICE_CONNECT));
    assert!(may(RegistryWriteOrServiceConnect, Rights::SERVICE_CONNECT));
    assert!(!may(RegistryWriteOrServiceConnect, Rights::REGISTRY_READ));
    assert!(
        may(AllRights, Rights::ALL) && !may(AllRights, Rights::REGISTRY_WRITE.union(Rights::SERVICE_CONNECT))
    );
    for access in [RegistryRead, RegistryWrite, ServiceConnect, RegistryReadOrServiceConnect, AllRights] {
        assert!(!may(access, Rights::NONE) && !may(access, Rights::DEVICE_CONNECT), "{access:?}");
    }
}

#[test]
fn ids_are_decoded_after_the_split() {
    check("GET /devices/a%2Bb%23c%25d", r#"getDevice GetIdentity("a+b#c%d")"#);
    check("GET /devices/a+b", r#"getDevice GetIdentity("a+b")"#);
    check("GET /devices/Dev", r#"getDevice GetIdentity("Dev")"#);
    check("GET /devices/100%", r#"getDevice GetIdentity("100%")"#);
    check("GET /twins/d/modules/%24edgeAgent", r#"getModuleTwin GetTwin("d/$edgeAgent")"#);
    check("GET /%24iothub/websocket", "webSocket WebSocket");
    check(
        "GET /devices/a%2Fb",
        "'a/b' is not a valid device id: the character '/' is not allowed in an id; allowed are ASCII letters, digits and - : . + % _ # * ? ! ( ) , = @ ; $ '",
    );
    check(
        "GET /devices/a%00",
        "'a\0' is not a valid device id: the character '\\0' is not allowed in an id; allowed are ASCII letters, digits and - : . + % _ # * ? ! ( ) , = @ ; $ '",
    );
    check("GET /devices/%FF", "the path is not valid UTF-8 after percent-decoding");
}

#[test]
fn words_and_ids_collide_without_harm() {
    check("POST /devices/query", "queryTwins QueryTwins");
    check("GET /devices/query", r#"getDevice GetIdentity("query")"#);
    check("PUT /devices/query/", r#"putDevice PutIdentity("query")"#);
    check("DELETE /devices/query", r#"deleteDevice DeleteIdentity("query")"#);
    check("GET /twins/modules", r#"getTwin GetTwin("modules")"#);
    check("POST /twins/methods/methods", r#"invokeMethod InvokeMethod("methods")"#);
    check("GET /devices/modules/modules", r#"listModules ListModules("modules")"#);
    check("PUT /jobs/v2/query", r#"putJob PutJob("query", Azure)"#);
    check("GET /jobs/v2/query", r#"queryJobs ListJobs(Azure)"#);
    check("GET /jobs/v2", r#"getExport NotSupported("import and export jobs")"#);
    check("GET /ostler/v1/jobs/dryRun", r#"getJobDetails GetJob("dryRun", Ostler)"#);
    check("POST /ostler/v1/jobs/dryRun/cancel", r#"cancelRolloutJob CancelJob("dryRun", Ostler)"#);
    check("PUT /uploads/d/a", r#"putBlob PutBlob("d/a")"#);
    check(
        "PUT /UPLOADS/d/1/2/3/4/5/6/7/8/9/a%2Fb%20c+d",
        r#"putBlob PutBlob("d/1/2/3/4/5/6/7/8/9/a/b c+d")"#,
    );
    check("PUT /uploads/d%2Fa", r#"putBlob PutBlob("d/a")"#);
    check("PUT /uploads/..%2F..%2Fetc", r#"putBlob PutBlob("../../etc")"#);
    check("GET /ostler/v1/files/d/a/b", r#"getFile GetFile("d/a/b")"#);
    check("GET /ostler/v1/files/", "listFiles ListFiles");
    check("POST /devices/d/files/", r#"startUpload StartUpload("d")"#);
    check("POST /devices/d/files/notifications/", r#"finishUpload FinishUpload("d", None)"#);
    check("POST /devices/d/files/notifications/c", r#"finishNamedUpload FinishUpload("d", Some("c"))"#);
    check("GET /jobs/create", r#"getExport NotSupported("import and export jobs")"#);
    check("GET /configurations/testQueries", r#"getConfiguration GetConfiguration("testQueries")"#);
    check("POST /configurations/testQueries", "testQueries TestConfigurationQueries");
}

#[test]
fn what_is_not_there() {
    check("GET /nothing", "there is no such path in the service's interface or in Ostler's");
    for line in
        ["GET ///", "GET /devices//", "GET /devices//modules", "GET devices", "GET /a/b/c/d/e/f/g/h/i/j"]
    {
        check(line, "there is no such path in the service's interface or in Ostler's");
    }
    check("PATCH /devices/d", "this path takes only GET, PUT, DELETE");
    check("DELETE /devices", "this path takes only GET, POST");
    check("POST /devices/d", "this path takes only GET, PUT, DELETE");
    check("BREW /metrics", "this path takes only GET");
    check("OPTIONS /twins/d", "this path takes only GET, PATCH, PUT");
    check("HEAD /twins/d", r#"getTwin GetTwin("d")"#);
}

#[test]
fn a_post_may_stand_for_another_verb() {
    let twin = |method, verb| Route::parse(method, "/twins/d", verb).map(|route| route.endpoint.name);
    assert_eq!(twin(Method::Post, Some("PATCH")), Ok("patchTwin"));
    assert_eq!(twin(Method::Post, Some(" patch ")), Ok("patchTwin"));
    assert_eq!(twin(Method::Get, Some("PATCH")), Ok("getTwin"));
    assert_eq!(twin(Method::Post, None), Err(RouteError::Verb { allowed: "GET, PATCH, PUT".into() }));
}

proptest! {
    #[test]
    fn any_path_is_answered(path in "\\PC*") {
        let _ = Route::parse(Method::Get, &path, None);
    }

    #[test]
    fn any_id_survives_the_path(id in "[A-Za-z0-9:.+%_#*?!(),=@;$'-]{1,128}") {
        let encoded: String = id.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let route = parse(&format!("GET /twins/{encoded}")).unwrap();
        prop_assert_eq!(route.call, Call::GetTwin(EntityId::parse(&id).unwrap()));
    }
}
