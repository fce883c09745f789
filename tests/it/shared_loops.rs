//! A loop that one instance stopped is stopped on the others: as much of it, and for as long.

use open_aiops::clock::Clock;
use open_aiops::core::loops::finding::Scope;
use open_aiops::core::loops::trip::Trip;
use open_aiops::shared::Shared;
use open_aiops::shared::deeds::{SharedDeed, Told};
use serde_json::json as object;

use crate::harness::fleet::NOW;
use crate::harness::redis::Redis;
use crate::harness::talk::{Talk, calling};
use crate::harness::{Proxy, Response, Upstream, json};

const SECTIONS: &str = "[loops]\nmax_delay = \"0s\"\ncool_down = \"5m\"\n";
const COOL_DOWN_US: i64 = 300_000_000;
const ARGUMENTS: &str = "src/application/main.rs";

/// Two proxies in front of an agent that greps for the same file whatever it is told.
struct Fleet {
    east: Proxy,
    west: Proxy,
    upstream: Upstream,
    clock: Clock,
    redis: Redis,
}

impl Fleet {
    async fn start() -> Option<Self> {
        let (redis, clock) = (Redis::start()?, Clock::manual(NOW));
        let upstream = Upstream::with(|n, _| {
            let arguments = object!({"path": ARGUMENTS, "pattern": "fn parse_expression"});
            json(calling(&format!("call_{n}"), "grep", &arguments).to_string())
        })
        .await;
        let [east, west] = ["east", "west"].map(|name| {
            let shared = format!(
                "{SECTIONS}[shared]\nurl = \"{}\"\nsecret_env = \"SHARED\"\ninstance = \"{name}\"\n",
                redis.url()
            );
            Proxy::with(&upstream)
                .sections(&shared)
                .env("SHARED", "a secret of the tests")
                .on_clock(&clock)
        });
        Some(Self {
            east: east.start().await,
            west: west.start().await,
            upstream,
            clock,
            redis,
        })
    }

    /// So much was told in all, and both heard of it.
    async fn told(&self, deeds: usize) {
        let both = [shared(&self.east), shared(&self.west)];
        self.redis.told(deeds, &both).await;
    }

    /// Goes on through the eastern one until it is refused there. Gives the trip.
    async fn stopped(&self, talk: &mut Talk) -> Trip {
        loop {
            let response = self.east.call(&talk.ask()).await;
            if response.status() != 200 {
                let open = self.east.app.loops().open_trips();
                assert_eq!(open.len(), 1, "open trips");
                return open[0].clone();
            }
            *talk = talk.clone().heard(&response).result("Error: no such file");
        }
    }
}

fn shared(proxy: &Proxy) -> &Shared {
    proxy.app.budgets().shared().unwrap()
}

/// A conversation of a run that its client names both of.
fn agent() -> Talk {
    in_conversation("t-1")
}

fn in_conversation(name: &str) -> Talk {
    let talk = Talk::new("You are the coder.", "Mend what is broken in the parser.");
    talk.header("x-aiops-run", "r-1").header("thread-id", name)
}

#[track_caller]
fn is_refused(response: &Response, trip: &Trip) {
    let text = response.text();
    assert_eq!(response.status(), 429, "{text}");
    assert_eq!(response.header("x-aiops-reason"), Some("loop"));
    let allows = format!("open-aiops loops reset {}", trip.id);
    assert!(text.contains(&allows), "{allows:?} is not in {text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loop_that_one_instance_stopped_is_refused_by_another_until_it_has_cooled_down() {
    let Some(fleet) = Fleet::start().await else {
        return;
    };
    let mut talk = agent().header("authorization", "Bearer sk-one");
    let trip = fleet.stopped(&mut talk).await;
    let answered = fleet.upstream.requests().len();
    fleet.told(1).await;
    let refused = fleet.west.call(&talk.ask()).await;
    is_refused(&refused, &trip);
    let said = refused.text();
    assert!(said.contains("by coder"), "{said}");
    assert!(!said.contains(ARGUMENTS), "what is repeated is not told");
    assert_eq!(fleet.upstream.requests().len(), answered);
    // What it has nothing to do with goes on.
    let of_another_client = agent().header("authorization", "Bearer sk-two");
    let another = in_conversation("t-2").header("authorization", "Bearer sk-one");
    for other in [of_another_client, another] {
        assert_eq!(fleet.west.call(&other.ask()).await.status(), 200);
    }
    fleet.clock.advance_micros(COOL_DOWN_US - 1);
    for proxy in [&fleet.west, &fleet.east] {
        is_refused(&proxy.call(&talk.ask()).await, &trip);
    }
    fleet.clock.advance_micros(1);
    for proxy in [&fleet.west, &fleet.east] {
        assert_eq!(proxy.call(&talk.ask()).await.status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loop_goes_on_everywhere_when_it_is_let_go_on_by_the_instance_that_stopped_it() {
    let Some(fleet) = Fleet::start().await else {
        return;
    };
    let mut talk = agent();
    let trip = fleet.stopped(&mut talk).await;
    fleet.told(1).await;
    is_refused(&fleet.west.call(&talk.ask()).await, &trip);
    let loops = fleet.east.app.loops();
    loops.reset(trip.id, 0, "ada").await.unwrap();
    fleet.told(2).await;
    assert_eq!(fleet.west.call(&talk.ask()).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loop_goes_on_everywhere_when_it_is_let_go_on_by_another_instance() {
    let Some(fleet) = Fleet::start().await else {
        return;
    };
    let mut talk = agent();
    let trip = fleet.stopped(&mut talk).await;
    fleet.told(1).await;
    let loops = fleet.west.app.loops();
    loops.reset(trip.id, 0, "ada").await.unwrap();
    fleet.told(2).await;
    assert!(fleet.east.app.loops().open_trips().is_empty());
    for proxy in [&fleet.west, &fleet.east] {
        assert_eq!(proxy.call(&talk.ask()).await.status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn user_who_says_something_new_to_the_instance_that_stopped_a_loop_ends_it_everywhere() {
    let Some(fleet) = Fleet::start().await else {
        return;
    };
    let mut talk = agent();
    let trip = fleet.stopped(&mut talk).await;
    fleet.told(1).await;
    is_refused(&fleet.west.call(&talk.ask()).await, &trip);
    let new = talk.user("That file moved: read the one below the library folder now.");
    assert_eq!(fleet.east.call(&new.ask()).await.status(), 200);
    fleet.told(2).await;
    assert_eq!(fleet.west.call(&new.ask()).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_much_of_a_run_is_refused_elsewhere_as_where_its_loop_was_stopped() {
    let Some(fleet) = Fleet::start().await else {
        return;
    };
    let mut talk = agent();
    let mut trip = fleet.stopped(&mut talk).await;
    fleet.told(1).await;
    let other = in_conversation("t-2");
    let of_another_agent = in_conversation("t-3").header("x-aiops-agent", "painter");
    let of_another_run =
        Talk::new("You are the coder.", "Mend the scanner.").header("x-aiops-run", "r-2");
    let west = &fleet.west;
    for (deeds, scope, refuses) in [
        (2, Scope::Conversation, [false, false]),
        (3, Scope::Edge, [true, false]),
        (4, Scope::Run, [true, true]),
    ] {
        trip.evidence.scope = scope;
        shared(&fleet.east).tell_soon(&Told {
            at: NOW,
            who: "open-aiops".to_owned(),
            deed: SharedDeed::Tripped(0, Box::new(trip.clone())),
            details: "a loop".to_owned(),
            place: "east".to_owned(),
        });
        fleet.told(deeds).await;
        for (talk, is_no) in [&other, &of_another_agent].into_iter().zip(refuses) {
            let response = west.call(&talk.ask()).await;
            if is_no {
                is_refused(&response, &trip);
            } else {
                assert_eq!(response.status(), 200, "{scope:?}: {}", response.text());
            }
        }
        assert_eq!(west.call(&of_another_run.ask()).await.status(), 200);
    }
}
