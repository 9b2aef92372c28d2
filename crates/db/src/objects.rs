//! Objects: rows that say the same are one row, whoever says it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use firn_core::{Object, ObjectId};
use firn_nix::StorePath;
use firn_nix::rewrite::SelfReferences;
use firn_service::ports::DatabaseError;
use sha2::{Digest as _, Sha256};

use crate::decode::{self, Fields, OBJECT};
use crate::dialect::{Connection, Row};
use crate::error::{backend, stored};
use crate::query::{Query, Value, insert_rows};

/// Identity of an object: digest of everything that is said of it.
pub type Digest = [u8; 32];

/// Begins every digest; changes whenever the encoding does.
const FORMAT: &[u8] = b"firn-object-1";

/// An object as stored.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its identity.
    pub digest: Digest,
    path: String,
    content: [u8; 32],
    nar_size: i64,
    refs: String,
    ca: String,
    self_refs: &'static str,
}

impl Stored {
    /// Encodes an object.
    pub fn new(object: &Object) -> Result<Self, DatabaseError> {
        let path = object.path.base_name().to_owned();
        let names: Vec<&str> = object.references.iter().map(StorePath::base_name).collect();
        let refs = names.join(" ");
        let ca = object.ca.map(|ca| ca.to_string()).unwrap_or_default();
        let self_refs = self_references(object.self_references);
        let mut digest = Sha256::new_with_prefix(FORMAT);
        let size = object.nar_size.to_le_bytes();
        for part in [
            path.as_bytes(),
            object.content.bytes().as_slice(),
            size.as_slice(),
            refs.as_bytes(),
            ca.as_bytes(),
            self_refs.as_bytes(),
        ] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        Ok(Self {
            digest: digest.finalize().into(),
            path,
            content: *object.content.bytes(),
            nar_size: stored(object.nar_size)?,
            refs,
            ca,
            self_refs,
        })
    }
}

/// How a form of content addresses is stored.
pub fn self_references(form: Option<SelfReferences>) -> &'static str {
    form.map(SelfReferences::name).unwrap_or_default()
}

/// Row numbers by identity, and which of them were there before.
#[derive(Debug, Default)]
pub struct Interned {
    /// The row of each object.
    pub ids: HashMap<Digest, i64>,
    /// The identities that are new: nobody can have spoken of them yet.
    pub new: HashSet<Digest>,
}

/// Rows for objects, made where missing. Objects are taken in the order of their digests, so that two transactions with some objects
/// in common wait for each other in one direction only.
pub async fn intern<C: Connection>(
    connection: &mut C,
    objects: BTreeMap<Digest, Stored>,
) -> Result<Interned, DatabaseError> {
    let mut interned = Interned::default();
    find(connection, &mut interned.ids, objects.keys()).await?;
    let rows: Vec<[Value; 7]> = objects
        .iter()
        .filter(|(digest, _)| !interned.ids.contains_key(*digest))
        .map(|(digest, o)| {
            [
                Value::Blob(digest.to_vec()),
                Value::Text(o.path.clone()),
                Value::Blob(o.content.to_vec()),
                Value::Int(o.nar_size),
                Value::Text(o.refs.clone()),
                Value::Text(o.ca.clone()),
                Value::Text(o.self_refs.to_owned()),
            ]
        })
        .collect();
    for query in insert_rows::<C, _>(
        "INSERT INTO object (digest, path, content, nar_size, refs, ca, self_refs)",
        rows,
        "ON CONFLICT (digest) DO NOTHING RETURNING id, digest",
    ) {
        for row in connection.fetch(query).await.map_err(backend)? {
            let (digest, id) = identity(&row)?;
            interned.new.insert(digest);
            interned.ids.insert(digest, id);
        }
    }
    if interned.ids.len() < objects.len() {
        // Another transaction inserted some between the two statements, and the insert has waited for its commit.
        let missing: Vec<Digest> = objects
            .into_keys()
            .filter(|digest| !interned.ids.contains_key(digest))
            .collect();
        find(connection, &mut interned.ids, missing.iter()).await?;
    }
    Ok(interned)
}

impl Interned {
    /// The row of an object that was interned.
    pub fn id(&self, digest: &Digest) -> Result<i64, DatabaseError> {
        self.ids
            .get(digest)
            .copied()
            .ok_or_else(|| DatabaseError::Inconsistent {
                table: "object",
                what: "a row vanished while it was used".to_owned(),
            })
    }
}

async fn find<C: Connection>(
    connection: &mut C,
    ids: &mut HashMap<Digest, i64>,
    digests: impl Iterator<Item = &Digest>,
) -> Result<(), DatabaseError> {
    let query = ids_of_digests::<C>(digests.map(|d| d.to_vec()).collect());
    for row in connection.fetch(query).await.map_err(backend)? {
        let (digest, id) = identity(&row)?;
        ids.insert(digest, id);
    }
    Ok(())
}

/// Row numbers of the objects that are there.
pub fn ids_of_digests<C: Connection>(digests: Vec<Vec<u8>>) -> Query {
    let sql = format!("SELECT id, digest FROM object WHERE digest {}", C::in_blobs(1));
    Query::new(sql).bind(Value::Blobs(digests))
}

/// Objects by number.
pub fn of_ids<C: Connection>(ids: &BTreeSet<ObjectId>) -> Query {
    let sql = format!(
        "SELECT object.id, {OBJECT} FROM object WHERE object.id {}",
        C::in_ints(1)
    );
    Query::new(sql).bind(Value::Ints(ids.iter().map(|id| id.0).collect()))
}

/// One of them.
pub fn of_id(row: &impl Row) -> Result<(ObjectId, Object), DatabaseError> {
    let mut fields = Fields::new("object", row);
    let id = ObjectId(fields.int("id")?);
    let object = decode::object(&mut fields)?.ok_or_else(|| fields.bad("path", "is null"))?;
    Ok((id, object))
}

fn identity(row: &impl Row) -> Result<(Digest, i64), DatabaseError> {
    let mut fields = Fields::new("object", row);
    let id = fields.int("id")?;
    Ok((fields.array("digest")?, id))
}
