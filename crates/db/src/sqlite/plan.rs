//! That the hot queries search and never scan, so that they cost the same however many rows there are.

use firn_core::{AccountId, BuildId, BuildKey, KeyId, ObjectId, Policy, Trust};
use firn_nix::StorePath;
use firn_service::ports::DerivationDigest;
use sqlx::SqliteConnection;

use super::SqliteDatabase;
use crate::dialect::{Connection as _, Row as _};
use crate::driver::Driver as _;
use crate::query::Query;
use crate::shared::{self, Objects};
use crate::{
    claim_batch, counter, evidence, failures, history, objects, public_keys, realisations, recording,
    relations, requests, results, runs, settings, told, usage, views,
};

/// What SQLite says it will do, one step a line.
async fn plan(db: &SqliteDatabase, mut query: Query) -> Vec<String> {
    query.sql = format!("EXPLAIN QUERY PLAN {}", query.sql).into();
    let rows = db.driver.reader().await.unwrap().fetch(query).await.unwrap();
    rows.iter()
        .map(|row| row.text(3).unwrap().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn hot_queries_use_indices() {
    let directory = tempfile::tempdir().unwrap();
    let db = SqliteDatabase::open(&directory.path().join("db")).await.unwrap();
    let account = AccountId(1);
    let policy = Policy {
        account,
        keys: vec![KeyId(1)],
        accounts: vec![(AccountId(2), Trust::Uploads)],
        told_by: vec![(AccountId(2), Trust::Uploads)],
    };
    let path = StorePath::new(&[1; 20], "x").unwrap();
    let list = || vec!["x".to_owned()];
    let paths = "SEARCH claim USING PRIMARY KEY (account=? AND path=?)";
    let object = "SEARCH object USING INTEGER PRIMARY KEY (rowid=?)";
    let claims = "SEARCH claim USING INDEX claim_object (object=?)";
    let build = "SEARCH build USING INDEX sqlite_autoindex_build_1 (id=?)";
    let run = "SEARCH build USING INDEX sqlite_autoindex_build_1 (id=?) LEFT-JOIN";
    let group = "USE TEMP B-TREE FOR GROUP BY";
    let order = "USE TEMP B-TREE FOR ORDER BY";
    let these = Objects::These(vec![1]);
    let raised = vec![
        claims,
        "USE TEMP B-TREE FOR GROUP BY",
        "SCAN told",
        order,
        "SCAN raised",
    ];
    let cases = [
        (
            evidence::of_paths::<SqliteConnection>(&policy, list()),
            vec![
                paths,
                object,
                "SEARCH signed USING PRIMARY KEY (key=? AND path=?)",
                "SEARCH told USING PRIMARY KEY (account=? AND path=?)",
            ],
        ),
        (
            evidence::of_hash_part::<SqliteConnection>(&policy, "x"),
            vec![
                "SEARCH claim USING PRIMARY KEY (account=? AND path>? AND path<?)",
                "SEARCH signed USING PRIMARY KEY (key=? AND path>? AND path<?)",
            ],
        ),
        (
            claim_batch::present_of_paths::<SqliteConnection>(account, list()),
            vec![paths],
        ),
        (
            objects::ids_of_digests::<SqliteConnection>(vec![vec![0]]),
            vec!["SEARCH object USING COVERING INDEX sqlite_autoindex_object_1 (digest=?)"],
        ),
        (
            requests::latest(account, 5),
            vec!["SEARCH request USING INDEX request_account (account=?)"],
        ),
        (
            requests::latest_of(account, &path),
            vec!["SEARCH request USING INDEX request_drv (account=? AND drv_path=?)"],
        ),
        (
            views::derivers::<SqliteConnection>(&policy, &path),
            vec![paths, "SEARCH told USING PRIMARY KEY (account=? AND path=?)"],
        ),
        (
            views::referrers::<SqliteConnection>(&policy, path.hash_part()),
            vec!["SEARCH claim USING PRIMARY KEY (account=?)", object],
        ),
        (
            realisations::of_outputs::<SqliteConnection>(&policy, list(), list()),
            vec!["SEARCH realisation USING INDEX realisation_drv (drv=? AND output=?)"],
        ),
        (
            counter::epoch(),
            vec!["SEARCH counter USING PRIMARY KEY (name=?)"],
        ),
        (settings::stored_query(account, Some("x")), vec![]),
        (
            relations::of_account_query(account),
            vec!["UNION USING TEMP B-TREE", order],
        ),
        (
            public_keys::named::<SqliteConnection>(list()),
            vec!["SEARCH public_key USING INDEX public_key_name (name=?)"],
        ),
        (public_keys::open_signatures("x", account, 1, 1), vec![object]),
        (
            results::result_query(&BuildKey([0; 32]), account, true),
            vec![build],
        ),
        (
            failures::failure_query(&BuildKey([0; 32]), account, true),
            vec![build],
        ),
        (
            runs::of_derivation(&DerivationDigest([0; 32]), account, true, 5),
            vec!["SEARCH one USING INDEX build_drv (drv=?)", build, order],
        ),
        (
            history::latest::<SqliteConnection>(&["x".to_owned()].into(), "x", account, true, 5),
            vec![
                "SCAN asked VIRTUAL TABLE INDEX 1:",
                "SEARCH one USING COVERING INDEX build_account (account=? AND package=? AND system=? AND state=?)",
                build,
                order,
            ],
        ),
        (
            history::latest::<SqliteConnection>(&["x".to_owned()].into(), "x", account, false, 5),
            vec![
                "SCAN asked VIRTUAL TABLE INDEX 1:",
                "SEARCH one USING COVERING INDEX build_package (package=? AND system=?)",
                build,
                order,
            ],
        ),
        (
            runs::producers::<SqliteConnection>(&[ObjectId(1)].into(), account, true),
            vec![
                "SEARCH made USING COVERING INDEX build_output_object (object=?)",
                build,
                order,
            ],
        ),
        (
            runs::of_request(BuildId([0; 16]), account),
            vec![
                "SEARCH request EXISTS USING COVERING INDEX request_build (build=? AND account=?)",
                build,
            ],
        ),
        (
            runs::irreproducible(account, true, 5),
            vec![
                "SCAN differing",
                "SEARCH build USING INDEX build_key (key=?)",
                "SEARCH request USING COVERING INDEX request_build (build=? AND account=?)",
                group,
                "USE TEMP B-TREE FOR count(DISTINCT)",
                order,
                "SCAN latest",
                "USE TEMP B-TREE FOR LAST 2 TERMS OF ORDER BY",
            ],
        ),
        (
            recording::differs(&BuildId([0; 16]), &BuildKey([0; 32])),
            vec!["SEARCH build USING COVERING INDEX build_key (key=?)"],
        ),
        (
            objects::of_ids::<SqliteConnection>(&[ObjectId(1)].into()),
            vec![object],
        ),
        (
            usage::of_requests(Some(account), 1, 2),
            vec![
                "SEARCH request USING INDEX request_account (account=? AND time>? AND time<?)",
                run,
                group,
                "SCAN asked",
            ],
        ),
        (
            usage::of_requests(None, 1, 2),
            vec![
                "SEARCH request USING INDEX request_time (time>? AND time<?)",
                run,
                group,
                "SCAN asked",
            ],
        ),
        (
            usage::of_origins(Some(account), 1, 2),
            vec![
                "SEARCH claim USING PRIMARY KEY (account=?)",
                object,
                group,
                "SCAN came",
            ],
        ),
        (shared::raise::<SqliteConnection>(&these, 1), raised.clone()),
        (
            shared::raise::<SqliteConnection>(&Objects::Of(account), 1),
            raised.clone(),
        ),
    ];
    let kept = told::keep::<SqliteConnection>(&policy, &list(), &[1]);
    let kept = kept.into_iter().zip([
        vec![
            "SEARCH signed USING PRIMARY KEY (key=? AND path=? AND object=?)",
            order,
        ],
        vec!["SEARCH claim USING PRIMARY KEY (account=? AND path=? AND object=?)"],
    ]);
    let withdrawn = [these, Objects::Of(account)]
        .into_iter()
        .flat_map(|objects| shared::withdraw::<SqliteConnection>(&objects))
        .map(|query| (query, vec![]));
    let cases = cases.into_iter().chain(kept).chain(withdrawn);
    for (query, wanted) in cases {
        let sql = query.sql.clone();
        let plan = plan(&db, query).await;
        for step in &wanted {
            assert!(plan.iter().any(|p| p == step), "{sql}\n{plan:#?}");
        }
        for step in &plan {
            assert!(
                wanted.contains(&step.as_str())
                    || !step.contains("TEMP B-TREE") && !step.starts_with("SCAN")
                    || step.starts_with("SCAN json_each")
                    || step.starts_with("SCAN (subquery"),
                "{sql}\n{plan:#?}"
            );
        }
    }
    db.close().await;
}

#[tokio::test]
async fn connections_are_set_as_promised() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    let db = SqliteDatabase::open(&path).await.unwrap();
    async fn setting(connection: &mut SqliteConnection, name: &str) -> i64 {
        let rows = connection
            .fetch(Query::new(format!("SELECT {name} FROM pragma_{name}")))
            .await;
        rows.unwrap()[0].int(0).unwrap().unwrap()
    }
    let mut reader = db.driver.reader().await.unwrap();
    assert_eq!(setting(&mut reader, "query_only").await, 1);
    drop(reader);
    // FULL is 2, NORMAL is 1. A write that nobody waits for changes it for itself only.
    for _ in 0..2 {
        let written = db.driver.write(Box::new(|connection| {
            Box::pin(async move {
                Ok([
                    setting(connection, "synchronous").await,
                    setting(connection, "foreign_keys").await,
                ])
            })
        }));
        assert_eq!(written.await.unwrap(), [2, 1]);
        let nobody_waits = db.driver.write_soon(Box::new(|connection| {
            Box::pin(async move {
                assert_eq!(setting(connection, "synchronous").await, 1);
                Ok(())
            })
        }));
        nobody_waits.await.unwrap();
        db.driver.settle().await.unwrap();
    }
    db.close().await;
}
