//! Transactions as one says them.

use super::messages::*;

/// Keys from the first, included, to the end, excluded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct KeyRange {
    pub(crate) key: Vec<u8>,
    /// Empty for a single key.
    pub(crate) end: Vec<u8>,
}

impl KeyRange {
    /// One key.
    pub(crate) fn single(key: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into(), end: Vec::new() }
    }

    /// All keys from one to the other, which does not belong to it.
    pub(crate) fn between(key: impl Into<Vec<u8>>, end: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into(), end: end.into() }
    }

    /// All keys that begin like this.
    pub(crate) fn prefix(prefix: impl Into<Vec<u8>>) -> Self {
        let key = prefix.into();
        let mut end = key.clone();
        while let Some(last) = end.pop() {
            if let Some(next) = last.checked_add(1) {
                end.push(next);
                return Self { key, end };
            }
        }
        // A zero byte stands for the end of all keys.
        Self { key, end: vec![0] }
    }
}

/// If all comparisons hold, everything in `then` is done at once; otherwise everything in `or_else`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Txn(TxnRequest);

impl Txn {
    /// Holds if the key has not changed since this revision, or, for 0, does not exist.
    pub(crate) fn if_mod_revision(mut self, key: impl Into<Vec<u8>>, revision: i64) -> Self {
        self.0.compare.push(Compare {
            target: CompareTarget::Mod.into(),
            key: key.into(),
            target_union: Some(TargetUnion::ModRevision(revision)),
            range_end: Vec::new(),
        });
        self
    }

    /// Holds if no such key exists.
    pub(crate) fn if_absent(mut self, keys: KeyRange) -> Self {
        self.0.compare.push(Compare {
            target: CompareTarget::Version.into(),
            key: keys.key,
            target_union: Some(TargetUnion::Version(0)),
            range_end: keys.end,
        });
        self
    }

    pub(crate) fn then_put(
        mut self,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
        lease: i64,
    ) -> Self {
        let put = PutRequest { key: key.into(), value: value.into(), lease };
        self.0.success.push(RequestOp { request: Some(Request::Put(put)) });
        self
    }

    pub(crate) fn then_delete(mut self, key: impl Into<Vec<u8>>) -> Self {
        let delete = DeleteRangeRequest { key: key.into(), range_end: Vec::new() };
        self.0.success.push(RequestOp { request: Some(Request::DeleteRange(delete)) });
        self
    }

    pub(crate) fn then_get(mut self, keys: KeyRange, limit: i64) -> Self {
        self.0.success.push(get(keys, limit));
        self
    }

    pub(crate) fn else_get(mut self, keys: KeyRange, limit: i64) -> Self {
        self.0.failure.push(get(keys, limit));
        self
    }

    /// The same, answered by the member with what it has or not. If so, it waits for no other member, and for no write that is
    /// under way.
    pub(super) fn at_once(mut self, at_once: bool) -> Self {
        for op in self.0.success.iter_mut().chain(&mut self.0.failure) {
            if let Some(Request::Range(range)) = &mut op.request {
                range.serializable = at_once;
            }
        }
        self
    }

    pub(super) const fn request(&self) -> &TxnRequest {
        &self.0
    }
}

/// What came of a transaction.
#[derive(Clone, Debug)]
pub(crate) struct TxnAnswer {
    /// The revision after it.
    pub(crate) revision: i64,
    /// Whether all comparisons held.
    pub(crate) succeeded: bool,
    /// Whether it was sent more than once. Then comparisons may have failed because an earlier one succeeded.
    pub(crate) repeated: bool,
    /// What was got, in the order in which it was asked for.
    pub(crate) got: Vec<Got>,
}

/// The keys of one range.
#[derive(Clone, Debug, Default)]
pub(crate) struct Got {
    pub(crate) kvs: Vec<KeyValue>,
    /// Whether there are more.
    pub(crate) more: bool,
}

impl TxnAnswer {
    pub(super) fn new(answer: TxnResponse, repeated: bool) -> Self {
        let got = answer.responses.into_iter().filter_map(|op| match op.response {
            Some(Response::Range(range)) => Some(Got { kvs: range.kvs, more: range.more }),
            _ => None,
        });
        Self {
            revision: answer.header.map_or(0, |header| header.revision),
            succeeded: answer.succeeded,
            repeated,
            got: got.collect(),
        }
    }

    /// What the first, second, .. question got. Nothing where there was none.
    pub(crate) fn take(&mut self, index: usize) -> Got {
        self.got.get_mut(index).map(std::mem::take).unwrap_or_default()
    }

    /// The only key that it got.
    pub(crate) fn take_one(&mut self, index: usize) -> Option<KeyValue> {
        self.take(index).kvs.into_iter().next()
    }
}

fn get(keys: KeyRange, limit: i64) -> RequestOp {
    let range = RangeRequest {
        key: keys.key,
        range_end: keys.end,
        limit,
        revision: 0,
        serializable: false,
    };
    RequestOp { request: Some(Request::Range(range)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_first_key_that_does_not_begin_with_it() {
        for (prefix, end) in [
            (&b"/a/"[..], &b"/a0"[..]),
            (b"a\xff", b"b"),
            (b"a\xff\xff", b"b"),
            (b"\xff", b"\0"),
            (b"", b"\0"),
        ] {
            assert_eq!(KeyRange::prefix(prefix).end, end, "{prefix:?}");
        }
    }
}
