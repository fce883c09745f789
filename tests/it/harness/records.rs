//! What the ledger says, asked as anybody asks it: through the JSON API.

use std::net::SocketAddr;

use serde_json::Value;

use super::ask::get;
use super::client::{Client, Response};
use super::within;

/// One call as the API shows it.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) value: Value,
    admin: SocketAddr,
}

impl Record {
    /// A value by its JSON pointer.
    #[track_caller]
    pub(crate) fn get(&self, pointer: &str) -> &Value {
        self.value.pointer(pointer).unwrap_or(&Value::Null)
    }

    #[track_caller]
    pub(crate) fn text(&self, pointer: &str) -> &str {
        self.get(pointer)
            .as_str()
            .unwrap_or_else(|| panic!("no text at {pointer}: {}", self.value))
    }

    #[track_caller]
    pub(crate) fn number(&self, pointer: &str) -> u64 {
        let number = self.get(pointer).as_u64();
        number.unwrap_or_else(|| panic!("no number at {pointer}: {}", self.value))
    }

    pub(crate) fn outcome(&self) -> &str {
        self.text("/outcome")
    }

    pub(crate) fn provenance(&self) -> &str {
        self.text("/provenance")
    }

    pub(crate) fn input_tokens(&self) -> u64 {
        self.number("/usage/input_tokens")
    }

    pub(crate) fn output_tokens(&self) -> u64 {
        self.number("/usage/output_tokens")
    }

    pub(crate) fn agent(&self) -> &str {
        self.text("/agent")
    }

    /// A recorded body: `request` or `response`. None where there is none.
    pub(crate) async fn body(&self, which: &str) -> Option<Vec<u8>> {
        let target = format!("/api/v1/calls/{}/{which}", self.text("/id"));
        let answer = ask(self.admin, &target).await;
        (answer.status() == 200).then_some(answer.body.data)
    }
}

/// Waits until the call is settled in what can be queried.
pub(crate) async fn settled(admin: SocketAddr, call: &str) -> Record {
    within("the record of a call", async {
        loop {
            let answer = ask(admin, &format!("/api/v1/calls/{call}")).await;
            assert_eq!(answer.status(), 200, "{}", answer.text());
            let value = answer.json();
            if value["outcome"] != "open" {
                return Record { value, admin };
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

pub(crate) async fn only(admin: SocketAddr) -> Record {
    let ids = within("a record", async {
        loop {
            let ids = ids(admin).await;
            if !ids.is_empty() {
                return ids;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(ids.len(), 1, "recorded calls");
    settled(admin, &ids[0]).await
}

/// The ids of all calls, as far as the first page goes.
pub(crate) async fn ids(admin: SocketAddr) -> Vec<String> {
    let answer = ask(admin, "/api/v1/calls?limit=1000").await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let calls = answer.json()["calls"]
        .as_array()
        .cloned()
        .expect("a list of calls");
    calls
        .iter()
        .map(|call| call["id"].as_str().expect("an id").to_owned())
        .collect()
}

pub(crate) async fn ask(admin: SocketAddr, target: &str) -> Response {
    let mut client = Client::connect(admin).await;
    let ask = get(target).header("X-Test", "1");
    let bytes = String::from_utf8(ask.bytes()).expect("a text");
    client.send(bytes.replace("proxy.test", "localhost")).await;
    client.response(false).await
}
