//! Bodies that are not what they should be. Each gets a code of its own, none a 500, and nothing is half done.

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::world::*;

/// Alice, two devices of bob's that ring, and a world that must not change.
struct Stage {
    world: World,
    alice: Device,
    bob: Device,
    call: String,
}

impl Stage {
    async fn new() -> Self {
        let world = World::new(1, lavish()).await;
        let alice = world.device("alice", "dev_a1").await;
        let bob = world.device("bob", "dev_b1").await;
        world.device("carol", "dev_c1").await;
        let call = world.call(0, &alice, &[&bob]).await;
        Self { world, alice, bob, call }
    }

    /// Every route that takes a body: who asks, and a body that is good.
    fn doors(&self) -> Vec<(&'static str, String, &Device, Value)> {
        let verb = |verb: &str| format!("/v1/calls/{}/{verb}", self.call);
        let x = base64(b"x");
        vec![
            ("PUT", "/v1/devices/dev_a1".to_owned(), &self.alice, registration()),
            (
                "POST",
                "/v1/devices/dev_a1/endorsement".to_owned(),
                &self.alice,
                json!({ "endorsement": base64(&[5; 64]) }),
            ),
            (
                "POST",
                "/v1/calls".to_owned(),
                &self.alice,
                json!({ "to": ["carol"], "kind": "one_to_one", "media": "audio", "sealed": { "dev_c1": x } }),
            ),
            ("POST", verb("accept"), &self.bob, json!({ "sealed": x })),
            ("POST", verb("reject"), &self.bob, json!({ "reason": "declined" })),
            ("POST", verb("signal"), &self.alice, json!({ "sealed": { "dev_b1": x } })),
        ]
    }

    /// Every route of a verb without a body.
    fn bare_doors(&self) -> Vec<(String, &Device)> {
        let verb = |verb: &str| format!("/v1/calls/{}/{verb}", self.call);
        vec![
            (verb("ringing"), &self.bob),
            (verb("leave"), &self.alice),
            (verb("end"), &self.alice),
            (verb("rejoin"), &self.alice),
            (verb("ticket"), &self.alice),
        ]
    }

    async fn send(&self, method: &str, path: &str, who: &Device, kind: &str, body: &[u8]) -> Answer {
        let kind = if kind.is_empty() { String::new() } else { format!("content-type: {kind}\r\n") };
        self.world.raw(0, method, path, &format!("authorization: Bearer {}\r\n{kind}", who.token), body).await
    }

    async fn everything(&self) -> (tandem_state_client::Listing, String) {
        (self.world.store.snapshot().await, self.world.directory.text())
    }
}

/// S05 and issue 3, "Bad input, and what it gets".
#[tokio::test]
async fn what_is_wrong_with_any_body_has_a_code_of_its_own_and_changes_nothing() {
    let stage = Stage::new().await;
    let before = stage.everything().await;
    let json_kind = "application/json";
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)).into_bytes();
    let deep_object = format!("{}1{}", "{\"sealed\":".repeat(10_000), "}".repeat(10_000)).into_bytes();
    let mut wrong = Vec::new();
    for (method, path, who, good) in stage.doors() {
        let text = good.to_string();
        let with = |field: &str, value: Value| {
            let mut body = good.clone();
            body[field] = value;
            body.to_string().into_bytes()
        };
        let fields: Vec<String> = good.as_object().unwrap().keys().cloned().collect();
        let twice = format!("{},{}", &text[..text.len() - 1], &text[1..]);
        let nul_key = format!("{},\"\\u0000\":1}}", &text[..text.len() - 1]);
        type Body<'a> = (&'a str, &'a str, Vec<u8>, u16, &'a [&'a str]);
        let mut bodies: Vec<Body<'_>> = vec![
            ("an unknown field", json_kind, with("canary_field", json!(1)), 400, &["unknown_field"]),
            ("a NUL as a field", json_kind, nul_key.into_bytes(), 400, &["unknown_field"]),
            ("no body", json_kind, Vec::new(), 400, &["missing_field"]),
            ("an empty object", json_kind, b"{}".to_vec(), 400, &["missing_field"]),
            ("half of it", json_kind, text.as_bytes()[..text.len() / 2].to_vec(), 400, &["malformed_json"]),
            ("something behind it", json_kind, format!("{text} x").into_bytes(), 400, &["malformed_json"]),
            ("two of it", json_kind, format!("{text}{text}").into_bytes(), 400, &["malformed_json"]),
            (
                "each field twice",
                json_kind,
                twice.into_bytes(),
                400,
                &["wrong_value", "duplicate_field", "malformed_json"],
            ),
            ("a list", json_kind, b"[]".to_vec(), 400, &["wrong_type", "wrong_value"]),
            (
                "a list of its values",
                json_kind,
                b"[{},{},{},{},{},{},{}]".to_vec(),
                400,
                &["wrong_type", "wrong_value"],
            ),
            ("null", json_kind, b"null".to_vec(), 400, &["wrong_type"]),
            ("a word", json_kind, b"\"x\"".to_vec(), 400, &["wrong_type"]),
            ("a NUL", json_kind, b"\0".to_vec(), 400, &["malformed_json"]),
            ("a BOM", json_kind, format!("\u{feff}{text}").into_bytes(), 400, &["malformed_json"]),
            ("UTF-16", json_kind, text.encode_utf16().flat_map(u16::to_le_bytes).collect(), 400, &["malformed_json"]),
            (
                "not UTF-8",
                json_kind,
                [b"{\"\xff\":1,", &text.as_bytes()[1..]].concat(),
                400,
                &["malformed_json", "wrong_type"],
            ),
            (
                "a lone surrogate",
                json_kind,
                format!("{{\"\\ud800\":1,{}", &text[1..]).into_bytes(),
                400,
                &["malformed_json", "unknown_field", "wrong_type"],
            ),
            ("10,000 lists", json_kind, deep.clone(), 400, &["malformed_json", "wrong_type", "wrong_value"]),
            (
                "10,000 objects",
                json_kind,
                deep_object.clone(),
                400,
                &["malformed_json", "wrong_type", "wrong_value", "unknown_field"],
            ),
            ("no kind", "", text.clone().into_bytes(), 415, &["unsupported_media_type"]),
            (
                "a form",
                "application/x-www-form-urlencoded",
                text.clone().into_bytes(),
                415,
                &["unsupported_media_type"],
            ),
            ("text", "text/plain", text.clone().into_bytes(), 415, &["unsupported_media_type"]),
            ("nearly JSON", "application/jsonp", text.clone().into_bytes(), 415, &["unsupported_media_type"]),
            ("300 kB", json_kind, vec![b' '; 300 << 10], 413, &["body_too_large"]),
        ];
        for field in &fields {
            let mut lacking = good.clone();
            lacking.as_object_mut().unwrap().remove(field);
            bodies.push(("a field less", json_kind, lacking.to_string().into_bytes(), 400, &["missing_field"]));
            for value in [json!(7), json!(true), json!(null), json!([[]]), json!(1.5e300)] {
                if field == "to" && value == json!([[]]) || !fields.contains(field) {
                    continue;
                }
                bodies.push((
                    "a field of another type",
                    json_kind,
                    with(field, value),
                    400,
                    &["wrong_type", "wrong_value"],
                ));
            }
        }
        for (what, kind, body, status, codes) in bodies {
            let answer = stage.send(method, &path, who, kind, &body).await;
            if answer.status != status
                || answer.unlike_a_problem().is_some()
                || !codes.contains(&answer.code().as_str())
            {
                let shown: String = String::from_utf8_lossy(&body).chars().take(120).collect();
                wrong.push(format!("{method} {path}, {what}: {} {} to {shown}", answer.status, answer.body));
            }
            if answer.body.contains("canary") && what != "an unknown field" {
                wrong.push(format!("{method} {path}, {what}: repeats what was sent: {}", answer.body));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(before, stage.everything().await);
}

/// S05: verbs without a body take none with anything in it.
#[tokio::test]
async fn a_verb_without_fields_takes_no_field_and_no_nonsense() {
    let stage = Stage::new().await;
    let before = stage.everything().await;
    let kind = "application/json";
    let mut wrong = Vec::new();
    for (path, who) in stage.bare_doors() {
        let bodies: [(&[u8], &str, u16); 6] = [
            (b"{\"x\":1}", kind, 400),
            (b"[]", kind, 400),
            (b"nonsense", kind, 400),
            (b"\xff\xfe", kind, 400),
            (b"{}", "text/plain", 415),
            (&[b' '; 300 << 10], kind, 413),
        ];
        for (body, kind, status) in bodies {
            let answer = stage.send("POST", &path, who, kind, body).await;
            if answer.status != status || answer.unlike_a_problem().is_some() {
                wrong.push(format!(
                    "{path} {kind} {:?}: {answer:?}",
                    String::from_utf8_lossy(&body[..body.len().min(20)])
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(before, stage.everything().await);
}

/// Issue 3: values that have the right type and cannot be.
#[tokio::test]
async fn values_that_cannot_be_are_refused_and_change_nothing() {
    let stage = Stage::new().await;
    let before = stage.everything().await;
    let x = base64(b"x");
    let good = json!({ "to": ["carol"], "kind": "one_to_one", "media": "audio", "sealed": { "dev_c1": x } });
    let place = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        ("POST", "/v1/calls".to_owned(), &stage.alice, body)
    };
    let register = |path: &[&str], value: Value| {
        let mut body = registration();
        let mut at = &mut body;
        for step in path {
            at = &mut at[*step];
        }
        *at = value;
        ("PUT", "/v1/devices/dev_a1".to_owned(), &stage.alice, body)
    };
    let endorse = |endorsement: Value| {
        ("POST", "/v1/devices/dev_a1/endorsement".to_owned(), &stage.alice, json!({ "endorsement": endorsement }))
    };
    let verb = |verb: &str, who, body: Value| ("POST", format!("/v1/calls/{}/{verb}", stage.call), who, body);
    let huge: Value = (0..5_000).map(|n| (format!("dev_{n}"), json!("eA=="))).collect::<serde_json::Map<_, _>>().into();
    let large = base64(&[0; 8_193]);
    let rtts: Value = (0..1_000).map(|n| (format!("pop_{n}"), json!(1))).collect::<serde_json::Map<_, _>>().into();
    let requests = vec![
        place("to", json!([])),
        place("to", json!(["carol", "dave"])),
        place("to", json!(["carol", "carol"])),
        place("to", json!([""])),
        place("to", json!(["."])),
        place("to", json!([".."])),
        place("to", json!(["a/b"])),
        place("to", json!(["carol\u{0}"])),
        place("to", json!(["carol\n"])),
        place("to", json!(["c\u{e4}rol"])),
        place("to", json!(["c".repeat(65)])),
        place("to", json!(["alice"])),
        place("to", json!(["nobody-at-all"])),
        place("kind", json!("group")),
        place("kind", json!("two")),
        place("kind", json!("one_to_one\u{0}")),
        place("media", json!("smell")),
        place("media", json!("Audio")),
        place("sealed", json!({})),
        place("sealed", json!({ "dev_c1": "" })),
        place("sealed", json!({ "dev_c1": "%%%%" })),
        place("sealed", json!({ "dev_c1": "eA" })),
        place("sealed", json!({ "dev_c1": "eA==\n" })),
        place("sealed", json!({ "dev_c1": "eB==" })),
        place("sealed", json!({ "dev_c1": "-_-_" })),
        place("sealed", json!({ "dev_c1": "e\u{0}==" })),
        place("sealed", json!({ "dev_c1": large })),
        place("sealed", json!({ "dev_c1": x, "dev_c2": x })),
        place("sealed", json!({ "dev_b1": x })),
        place("sealed", json!({ "": x })),
        place("sealed", json!({ "dev_c1": x, "dev_\u{0}": x })),
        place("sealed", json!({ "dev_c1": x, "../dev_c1": x })),
        place("sealed", huge.clone()),
        place("missed", json!({ "dev_c1": large })),
        place("missed", json!({ "dev_c1": "%" })),
        place("relay_rtt_ms", json!({ "pop_7": -1 })),
        place("relay_rtt_ms", json!({ "pop_7": 1e300 })),
        place("relay_rtt_ms", rtts),
        register(&["identity", "sign"], json!(base64(&[0; 31]))),
        register(&["identity", "sign"], json!(base64(&[0; 33]))),
        register(&["identity", "agree"], json!("")),
        register(&["identity", "agree"], json!("AAAA\u{0}")),
        register(&["identity", "more"], json!(1)),
        register(&["signed_prekey", "id"], json!(-1)),
        register(&["signed_prekey", "id"], json!(4_294_967_296_u64)),
        register(&["signed_prekey", "id"], json!(1.5)),
        register(&["signed_prekey", "key"], json!(base64(&[0; 64]))),
        register(&["signed_prekey", "signature"], json!(base64(&[0; 63]))),
        register(&["push_token"], json!("t".repeat(1_025))),
        register(&["push_token"], json!("a\u{0}b")),
        register(&["push_token"], json!("a\nb")),
        register(&["push_token"], json!("")),
        register(&["capabilities"], json!(vec!["video"; 17])),
        register(&["capabilities"], json!(["v".repeat(33)])),
        register(&["capabilities"], json!([""])),
        register(&["capabilities"], json!(["\u{1b}[2J"])),
        register(&["custody"], json!("nobody")),
        register(&["endorsement"], json!("")),
        register(&["endorsement"], json!("%")),
        register(&["endorsement"], json!(base64(&[0; 63]))),
        register(&["endorsement"], json!(base64(&[0; 65]))),
        register(&["endorsement"], json!({})),
        endorse(json!("")),
        endorse(json!(base64(&[0; 32]))),
        endorse(json!(base64(&[0; 64]).replace("AA==", "AB=="))),
        endorse(json!(base64(&[0; 64]))),
        verb("accept", &stage.bob, json!({ "sealed": "%" })),
        verb("accept", &stage.bob, json!({ "sealed": large })),
        verb("accept", &stage.bob, json!({ "sealed": "" })),
        verb("reject", &stage.bob, json!({ "reason": "hangup" })),
        verb("reject", &stage.bob, json!({ "reason": "" })),
        verb("signal", &stage.alice, json!({ "sealed": {} })),
        verb("signal", &stage.alice, json!({ "sealed": { "dev_b1": large } })),
        verb("signal", &stage.alice, json!({ "sealed": huge })),
        verb("signal", &stage.alice, json!({ "sealed": { "dev_a1": x } })),
    ];
    let mut wrong = Vec::new();
    let mut at = before;
    for (method, path, who, body) in requests {
        let answer = stage.world.ask(0, who, method, &path, &body).await;
        let shown: String = body.to_string().chars().take(160).collect();
        if !(400..500).contains(&answer.status) || answer.status == 429 || answer.unlike_a_problem().is_some() {
            wrong.push(format!("{method} {path} {shown}: {} {}", answer.status, answer.body));
        }
        let now = stage.everything().await;
        if now != at {
            wrong.push(format!("{method} {path} {shown}: {} and something was written", answer.status));
            at = now;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// S05: at the bounds themselves everything is taken.
#[tokio::test]
async fn what_is_just_within_its_bound_is_taken() {
    let world = World::new(1, lavish()).await;
    let account = "a".repeat(64);
    let alice = world.device(&account, &format!("dev_{}", "x".repeat(60))).await;
    let mut bob = Vec::new();
    for n in 0..10 {
        bob.push(world.device("b@example.org:+_-.", &format!("dev_{n}")).await);
    }
    let eleventh = Device::new("b@example.org:+_-.", "dev_10");
    let full = world.put(&eleventh).await;
    assert!((400..500).contains(&full.status) && full.unlike_a_problem().is_none(), "{full:?}");
    let blob = base64(&[0xfb; 8_192]);
    let each: Value = bob.iter().map(|d| (d.device.clone(), json!(blob))).collect::<serde_json::Map<_, _>>().into();
    let body = json!({
        "to": ["b@example.org:+_-."], "kind": "one_to_one", "media": "video", "sealed": each, "missed": each,
        "relay_rtt_ms": { "pop_0007": 12.5 },
    });
    let answer = world.ask(0, &alice, "POST", "/v1/calls", &body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let accepted = world.verb(0, &bob[9], &answer.text("call_id"), "accept", &json!({ "sealed": blob })).await;
    assert_eq!(accepted.status, 200, "{accepted:?}");
    let kind = format!("authorization: Bearer {}\r\ncontent-type: Application/JSON; charset=utf-8\r\n", alice.token);
    let ended = world.raw(0, "POST", &format!("/v1/calls/{}/end", answer.text("call_id")), &kind, b"{}").await;
    assert_eq!(ended.status, 200, "{ended:?}");
}

/// Devices that were added, removed or named too much: the caller is told which, and nothing rings.
#[tokio::test]
async fn sealing_for_other_devices_than_the_callees_rings_nowhere_and_says_which() {
    let stage = Stage::new().await;
    stage.world.device("carol", "dev_c2").await;
    let before = stage.everything().await;
    let body = json!({
        "to": ["carol"], "kind": "one_to_one", "media": "audio",
        "sealed": { "dev_c1": base64(b"x"), "dev_c3": base64(b"x") },
    });
    let answer = stage.world.ask(0, &stage.alice, "POST", "/v1/calls", &body).await;
    answer.must_be(409, "devices_changed", "one missing, one extra");
    assert_eq!(answer.json()["missing"], json!(["dev_c2"]));
    assert_eq!(answer.json()["extra"], json!(["dev_c3"]));
    assert_eq!(answer.json()["stale"], json!([]));
    assert_eq!(before, stage.everything().await);
}

/// S05: 1 MiB is refused at its head; not a byte of it need be sent.
#[tokio::test]
async fn a_body_of_one_mebibyte_is_refused_before_it_is_sent() {
    let stage = Stage::new().await;
    for (method, path, who, _) in stage.doors() {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             content-length: 1048576\r\n\r\n",
            who.token
        );
        let mut stream = connect(stage.world.nodes[0].address, None).await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = Answer::parse(&rest(&mut stream).await);
        answer.must_be(413, "body_too_large", &path);
        // One that does not say how long it is.
        let head = head.replace("content-length: 1048576", "transfer-encoding: chunked");
        let mut stream = connect(stage.world.nodes[0].address, None).await;
        stream.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..64 {
            let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
            if stream.write_all(chunk.as_bytes()).await.is_err() {
                break;
            }
        }
        let bytes = rest(&mut stream).await;
        // A reset may overtake the answer.
        if !bytes.is_empty() {
            Answer::parse(&bytes).must_be(413, "body_too_large", &path);
        }
    }
}

/// X03: what a client sent does not stand in the answer, whatever it was.
#[tokio::test]
async fn escape_sequences_in_a_field_name_do_not_come_back_raw() {
    let stage = Stage::new().await;
    let body = "{\"canary\\u001b[2J\\r\\nx: y\":1}";
    let answer = stage.send("POST", "/v1/calls", &stage.alice, "application/json", body.as_bytes()).await;
    assert_eq!(answer.status, 400);
    assert!(!answer.head.contains("x: y") && !answer.body.chars().any(char::is_control), "{answer:?}");
}
