//! Ids in paths that are none.

use serde_json::Value;

use super::world::*;

/// Everything that is no id, as it may stand in a path.
fn no_ids() -> Vec<String> {
    let mut ids: Vec<String> = [
        "%2f",
        "a%2fb",
        "a%2Fb",
        "dev_a1%2f..",
        "..",
        "%2e%2e",
        "%2E%2e",
        ".",
        "%2e",
        "%00",
        "dev_a1%00",
        "dev_%00a1",
        "%",
        "%zz",
        "%f",
        "%ff",
        "%c0%af",
        "%u002f",
        "dev_%1b%5b2J",
        "dev_a1%0a",
        "dev_a1%0d%0ax:y",
        "%20",
        "dev_a1%20",
        "+dev_a1",
        "dev_%e4%b8%ad",
        "dev_\u{4e2d}",
        "%ef%bc%8f",
        "dev_a1;x=1",
        "*",
        "%25%32%66",
        "dev_a1%252f",
        "{call}",
        ":call",
        "'%20or%201=1--",
        "%s%n%x",
        "-1",
        "0",
        "null",
        "dev_",
        "DEV_a1",
        "dev_a1.json",
        "call_",
        "call_%00",
        "call_00000000000000000000000000%2f",
        "call_zzzzzzzzzzzzzzzzzzzzzzzzzz",
        "call_iiiiiiiiiiiiiiiiiiiiiiiiii",
    ]
    .map(str::to_owned)
    .to_vec();
    ids.push(format!("dev_{}", "a".repeat(61)));
    ids.push("a".repeat(8_000));
    ids.push("%61".repeat(2_000));
    ids
}

/// E05 and issue 3, "ids with `/`, NUL, `..`".
#[tokio::test]
async fn an_id_that_is_none_is_not_found_at_every_route_and_changes_nothing() {
    let world = World::new(1, lavish()).await;
    let alice = world.device("alice", "dev_a1").await;
    let bob = world.device("bob", "dev_b1").await;
    world.call(0, &alice, &[&bob]).await;
    let before = (world.store.snapshot().await, world.directory.text());
    let mut wrong = Vec::new();
    for id in no_ids() {
        let mut routes = call_routes("dev_b1", &id);
        routes.push(("PUT", format!("/v1/devices/{id}"), registration()));
        routes.push(("DELETE", format!("/v1/devices/{id}"), Value::Null));
        // Words with these are accounts; they have no devices.
        let account = [":call", "+dev_a1", "-1", "0", "null", "dev_", "DEV_a1", "dev_a1.json", "call_"]
            .contains(&id.as_str())
            || id.starts_with("call_z")
            || id.starts_with("call_i");
        if account || id.starts_with("dev_aaa") {
            let answer = world.get(0, &alice, &format!("/v1/accounts/{id}/devices")).await;
            if !matches!(answer.status, 200 | 404) {
                wrong.push(format!("account {id}: {answer:?}"));
            }
        } else {
            routes.push(("GET", format!("/v1/accounts/{id}/devices"), Value::Null));
        }
        for (method, path, body) in routes {
            let answer = world.ask(0, &alice, method, &path, &body).await;
            // A byte that no request line may have is refused by the line's own rules.
            let not_a_line = answer.status == 400 && (!path.is_ascii() || path.contains(['{', '\'']));
            if !(answer.is(404, "not_found") || not_a_line) {
                let shown: String = path.chars().take(80).collect();
                wrong.push(format!("{method} {shown}: {} {}", answer.status, answer.body));
            }
            if answer.head.contains("\u{1b}") || answer.header("x").is_some() {
                wrong.push(format!("{method} {path}: an injected header: {}", answer.head));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(before, (world.store.snapshot().await, world.directory.text()));
}

/// E05: ids that are prefixes of one another, or spell the same in another case, are different ones.
#[tokio::test]
async fn ids_that_begin_alike_are_different_devices_and_accounts() {
    let world = World::new(1, lavish()).await;
    let devices = [("al", "dev_x"), ("ali", "dev_x"), ("Ali", "dev_x"), ("ali", "dev_xx"), ("ali", "dev_X")];
    for (account, device) in devices {
        world.device(account, device).await;
    }
    let alice = Device::new("ali", "dev_x");
    for (account, many) in [("al", 1), ("ali", 3), ("Ali", 1), ("a", 0), ("alic", 0)] {
        let list = world.get(0, &alice, &format!("/v1/accounts/{account}/devices")).await;
        assert_eq!(list.json()["devices"].as_array().unwrap().len(), many, "{account}: {list:?}");
        assert_eq!(list.text("account"), account);
    }
    assert_eq!(world.ask(0, &alice, "DELETE", "/v1/devices/dev_xx", &Value::Null).await.status, 204);
    // The removal voids no token of a device whose name begins alike.
    for (account, device) in devices.into_iter().filter(|(_, device)| *device != "dev_xx") {
        let answer = world.get(0, &Device::new(account, device), "/v1/relays").await;
        assert_eq!(answer.status, 200, "{account} {device}: {answer:?}");
    }
}

/// E05: an account of every character that one may have works as any other one does.
#[tokio::test]
async fn an_account_of_odd_characters_can_call_and_be_called() {
    let world = World::new(1, lavish()).await;
    for account in ["...", "@", ":", "+", "-", "_", "a.b@c:d+e-f_g", "..a"] {
        let odd = world.device(account, "dev_-_").await;
        let alice = world.device(&format!("caller{}", account.len()), "dev_a1").await;
        for path in [format!("/v1/accounts/{account}/devices"), format!("/v1/accounts/{}/devices", encoded(account))] {
            let list = world.get(0, &alice, &path).await;
            assert!(list.status == 200 && list.text("account") == account, "{path}: {list:?}");
        }
        let call = world.call(0, &alice, &[&odd]).await;
        let rejected = world.verb(0, &odd, &call, "reject", &serde_json::json!({ "reason": "declined" })).await;
        assert_eq!(rejected.status, 200, "{rejected:?}");
    }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
