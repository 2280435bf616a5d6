//! How the processes of a test are asked, and answer: the calls and answers of a history as JSON.

use std::sync::Arc;
use std::time::Duration;

use overlay_lease::history::{Answer, Call};
use overlay_lease::{
    Attributes, Change, Changes, Claim, Configured, Lease, NetworkConfig, NodeId, Revision,
    Snapshot, Standing, Subnets, Tenant, Update,
};
use serde_json::{Value, json};

pub(crate) fn from_call(call: &Call) -> Value {
    match call {
        Call::Config => json!(["config"]),
        Call::Configure { config, replaces } => {
            json!(["configure", config.to_json(), replaces.map(Revision::get)])
        }
        Call::Standing(node) => json!(["standing", node.as_str()]),
        Call::Tenants => json!(["tenants"]),
        Call::Snapshot => json!(["snapshot"]),
        Call::Watch { watch, after } => json!(["watch", watch, after.get()]),
        Call::Next { watch } => json!(["next", watch]),
        Call::Create(claim) => json!([
            "create",
            claim.subnets.to_string(),
            claim.node.as_ref().map(NodeId::as_str),
            claim.attributes.to_json(),
            from_ttl(claim.ttl),
            claim.under.get(),
        ]),
        Call::Update { lease, attributes, ttl } => {
            json!(["update", from_lease(lease), attributes.to_json(), from_ttl(*ttl)])
        }
        Call::Renew(lease) => json!(["renew", from_lease(lease)]),
        Call::Remove(lease) => json!(["remove", from_lease(lease)]),
        Call::Remaining(lease) => json!(["remaining", from_lease(lease)]),
    }
}

pub(crate) fn to_call(json: &Value) -> Call {
    match json[0].as_str().unwrap() {
        "config" => Call::Config,
        "configure" => Call::Configure {
            config: NetworkConfig::from_json(json[1].as_str().unwrap()).unwrap(),
            replaces: json[2].as_u64().map(Revision::new),
        },
        "standing" => Call::Standing(to_node(&json[1]).unwrap()),
        "tenants" => Call::Tenants,
        "snapshot" => Call::Snapshot,
        "watch" => Call::Watch { watch: to_index(&json[1]), after: to_revision(&json[2]) },
        "next" => Call::Next { watch: to_index(&json[1]) },
        "create" => Call::Create(Claim {
            subnets: to_subnets(&json[1]),
            node: to_node(&json[2]),
            attributes: to_attributes(&json[3]),
            ttl: to_ttl(&json[4]),
            under: to_revision(&json[5]),
        }),
        "update" => Call::Update {
            lease: to_lease(&json[1]),
            attributes: to_attributes(&json[2]),
            ttl: to_ttl(&json[3]),
        },
        "renew" => Call::Renew(to_lease(&json[1])),
        "remove" => Call::Remove(to_lease(&json[1])),
        "remaining" => Call::Remaining(to_lease(&json[1])),
        other => panic!("no call {other}"),
    }
}

pub(crate) fn from_answer(answer: &Answer) -> Value {
    match answer {
        Answer::None => json!(["none"]),
        Answer::Failed(error) => json!(["failed", error]),
        Answer::Config(config) => json!(["config", from_config(config.as_ref())]),
        Answer::Configured(config) => json!(["configured", from_config(Some(config))]),
        Answer::Reconfigured(config) => json!(["reconfigured", from_config(config.as_ref())]),
        Answer::Standing(standing) => json!([
            "standing",
            from_config(standing.config.as_ref()),
            standing.lease.as_deref().map(from_lease),
            standing.last.map(|last| last.to_string()),
            standing.may_guess,
        ]),
        Answer::Tenants(tenants) => {
            let tenant = |tenant: &Tenant| {
                let Tenant { node, subnets, since } = tenant;
                json!([node.as_str(), subnets.to_string(), since.get()])
            };
            json!(["tenants", tenants.iter().map(tenant).collect::<Vec<_>>()])
        }
        Answer::Snapshot(snapshot) => json!(["snapshot", from_snapshot(snapshot)]),
        Answer::Update(Update::Snapshot(snapshot)) => {
            json!(["everything", from_snapshot(snapshot)])
        }
        Answer::Update(Update::Changes(Changes { revision, changes, skipped })) => {
            assert_eq!(skipped, &[]);
            let changes: Vec<_> = changes.iter().map(from_change).collect();
            json!(["changes", revision.get(), changes])
        }
        Answer::Lease(lease) => json!(["lease", from_lease(lease)]),
        Answer::Taken(lease) => json!(["taken", from_lease(lease)]),
        Answer::Holds(lease) => json!(["holds", from_lease(lease)]),
        Answer::Done => json!(["done"]),
        Answer::Remaining(remaining) => json!(["remaining", from_ttl(*remaining)]),
        Answer::Fenced(lease) => json!(["fenced", lease.as_deref().map(from_lease)]),
    }
}

pub(crate) fn to_answer(json: &Value) -> Answer {
    match json[0].as_str().unwrap() {
        "none" => Answer::None,
        "failed" => Answer::Failed(json[1].as_str().unwrap().to_owned()),
        "config" => Answer::Config(to_config(&json[1])),
        "configured" => Answer::Configured(to_config(&json[1]).unwrap()),
        "reconfigured" => Answer::Reconfigured(to_config(&json[1])),
        "standing" => Answer::Standing(Standing {
            config: to_config(&json[1]),
            lease: to_some_lease(&json[2]),
            last: json[3].as_str().map(|last| last.parse().unwrap()),
            may_guess: json[4].as_bool().unwrap(),
        }),
        "tenants" => Answer::Tenants(to_list(&json[1], |tenant| Tenant {
            node: to_node(&tenant[0]).unwrap(),
            subnets: to_subnets(&tenant[1]),
            since: to_revision(&tenant[2]),
        })),
        "snapshot" => Answer::Snapshot(to_snapshot(&json[1])),
        "everything" => Answer::Update(Update::Snapshot(to_snapshot(&json[1]))),
        "changes" => Answer::Update(Update::Changes(Changes {
            revision: to_revision(&json[1]),
            changes: to_list(&json[2], to_change),
            skipped: Vec::new(),
        })),
        "lease" => Answer::Lease(to_lease(&json[1])),
        "taken" => Answer::Taken(to_lease(&json[1])),
        "holds" => Answer::Holds(to_lease(&json[1])),
        "done" => Answer::Done,
        "remaining" => Answer::Remaining(to_ttl(&json[1])),
        "fenced" => Answer::Fenced(to_some_lease(&json[1])),
        other => panic!("no answer {other}"),
    }
}

fn from_change(change: &Change) -> Value {
    match change {
        Change::Config(config) => json!(["config", from_config(config.as_ref())]),
        Change::Lease(lease) => json!(["lease", from_lease(lease)]),
        Change::Gone(subnets) => json!(["gone", subnets.to_string()]),
        other => panic!("{other:?}"),
    }
}

fn to_change(json: &Value) -> Change {
    match json[0].as_str().unwrap() {
        "config" => Change::Config(to_config(&json[1])),
        "lease" => Change::Lease(to_lease(&json[1])),
        "gone" => Change::Gone(to_subnets(&json[1])),
        other => panic!("no change {other}"),
    }
}

fn from_snapshot(snapshot: &Snapshot) -> Value {
    let Snapshot { revision, config, leases, skipped } = snapshot;
    assert_eq!(skipped, &[]);
    let leases: Vec<_> = leases.iter().map(|lease| from_lease(lease)).collect();
    json!([revision.get(), from_config(config.as_ref()), leases])
}

fn to_snapshot(json: &Value) -> Snapshot {
    Snapshot {
        revision: to_revision(&json[0]),
        config: to_config(&json[1]),
        leases: to_list(&json[2], to_lease),
        skipped: Vec::new(),
    }
}

fn from_lease(lease: &Lease) -> Value {
    json!([
        lease.subnets.to_string(),
        lease.node.as_ref().map(NodeId::as_str),
        lease.attributes.to_json(),
        from_ttl(lease.ttl),
        lease.created.get(),
        lease.revision.get(),
    ])
}

fn to_lease(json: &Value) -> Arc<Lease> {
    let (subnets, node, attributes) =
        (to_subnets(&json[0]), to_node(&json[1]), to_attributes(&json[2]));
    let (created, revision) = (to_revision(&json[4]), to_revision(&json[5]));
    Arc::new(Lease::new(subnets, node, attributes, to_ttl(&json[3]), created, revision))
}

fn to_some_lease(json: &Value) -> Option<Arc<Lease>> {
    (!json.is_null()).then(|| to_lease(json))
}

fn from_config(config: Option<&Configured>) -> Value {
    let config = config.map(|config| (config.config.to_json(), config.revision.get()));
    json!(config)
}

fn to_config(json: &Value) -> Option<Configured> {
    let config = Arc::new(NetworkConfig::from_json(json[0].as_str()?).unwrap());
    Some(Configured { config, revision: to_revision(&json[1]) })
}

fn from_ttl(ttl: Option<Duration>) -> Value {
    ttl.map(|ttl| u64::try_from(ttl.as_nanos()).unwrap()).into()
}

fn to_ttl(json: &Value) -> Option<Duration> {
    json.as_u64().map(Duration::from_nanos)
}

fn to_subnets(json: &Value) -> Subnets {
    json.as_str().unwrap().parse().unwrap()
}

fn to_node(json: &Value) -> Option<NodeId> {
    json.as_str().map(|node| NodeId::new(node).unwrap())
}

fn to_attributes(json: &Value) -> Attributes {
    Attributes::from_json(json.as_object().unwrap().clone()).unwrap()
}

fn to_revision(json: &Value) -> Revision {
    Revision::new(json.as_u64().unwrap())
}

fn to_index(json: &Value) -> usize {
    usize::try_from(json.as_u64().unwrap()).unwrap()
}

fn to_list<T>(json: &Value, each: impl Fn(&Value) -> T) -> Vec<T> {
    json.as_array().unwrap().iter().map(each).collect()
}
