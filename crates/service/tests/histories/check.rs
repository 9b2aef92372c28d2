//! Whether the service shows what the rules say.

use std::collections::BTreeSet;

use firn_core::Evidence;
use firn_nix::{PathInfo, StorePath};
use firn_protocol::Store as _;

use crate::model::{Model, View};
use crate::operations::Dice;
use crate::play::Play;
use crate::run::differences;
use crate::universe::{NAMES, universe};

fn same<T: PartialEq + std::fmt::Debug>(what: &str, service: &T, rules: &T) -> Result<(), String> {
    match service == rules {
        true => Ok(()),
        false => {
            let differ = differences(&format!("{service:#?}"), &format!("{rules:#?}"));
            Err(format!("{what} of the service (+) and the rules (-):{differ}"))
        }
    }
}

/// What an account sees.
pub async fn views(play: &Play, model: &mut Model, account: usize) -> Result<View, String> {
    hear(play, model).await?;
    let view = model.view(account);
    let looked = play.look(account).await;
    let paths = universe().paths.iter();
    let infos: Vec<PathInfo> = paths
        .filter_map(|path| view.chosen.get(path))
        .map(|seen| seen.info.clone())
        .collect();
    same("path infos", &looked.infos, &infos)?;
    same("all valid paths", &looked.listed, &model.listed(account, &view))?;
    hear(play, model).await?;
    model.holds(account, &view)?;
    Ok(view)
}

/// What the service kept for accounts.
async fn hear(play: &Play, model: &mut Model) -> Result<(), String> {
    let all = play.world.db.all_told();
    for (account, name) in NAMES.iter().enumerate() {
        let id = play.world.named(name).await.id;
        let own = all.iter().filter(|(whose, _)| *whose == id);
        let kept: Vec<Evidence> = own.map(|(_, evidence)| evidence.clone()).collect();
        model.hear(account, &kept)?;
    }
    Ok(())
}

/// The other questions, about some paths.
pub async fn details(play: &Play, model: &mut Model, account: usize, dice: &mut Dice) -> Result<(), String> {
    let view = views(play, model, account).await?;
    let client = &play.clients[account];
    let path = &universe().paths[dice.below(universe().paths.len())];
    let valid = view.chosen.get(path);

    let by_hash = client
        .query_path_from_hash_part(path.hash_part().to_owned())
        .await;
    same(
        "path of a hash part",
        &by_hash.unwrap(),
        &valid.map(|_| path.clone()),
    )?;

    let all: BTreeSet<StorePath> = universe().paths.iter().cloned().collect();
    let closure = client.query_closure(all, false).await.unwrap();
    same(
        "closure of everything",
        &closure,
        &view.chosen.keys().cloned().collect(),
    )?;
    let closure = client
        .query_closure(BTreeSet::from([path.clone()]), false)
        .await
        .unwrap();
    let expected = valid
        .map(|_| view.closure(&BTreeSet::from([path.clone()])))
        .unwrap_or_default();
    same(
        "closure",
        &closure,
        &expected.into_iter().map(|t| t.path).collect(),
    )?;

    let visible = model.visible(account);
    let refers = |p: &StorePath| {
        view.chosen
            .get(p)
            .is_some_and(|s| s.thing.references.contains(path))
    };
    let told = model.told_by_accounts(account);
    let claimed = visible.iter().map(|(c, _)| &c.thing);
    let things = claimed.chain(told.iter().map(|(t, _)| &t.thing));
    let referrers = things.filter(|thing| thing.references.contains(path));
    let referrers = referrers.map(|thing| thing.path.clone()).filter(refers).collect();
    same(
        "referrers",
        &client.query_referrers(path.clone()).await.unwrap(),
        &referrers,
    )?;

    let claimed = visible.iter().map(|(c, _)| (&c.thing, &c.deriver));
    let derivers = claimed.chain(told.iter().map(|(t, _)| (&t.thing, &t.deriver)));
    let derivers = derivers.filter(|(thing, _)| thing.path == *path);
    let derivers = derivers.filter_map(|(_, deriver)| deriver.clone());
    let derivers = derivers.filter(|d| view.chosen.contains_key(d)).collect();
    same(
        "derivers",
        &client.query_valid_derivers(path.clone()).await.unwrap(),
        &derivers,
    )?;

    let nar = play.nar(account, path).await;
    let nar = nar.map(|nar| firn_nix::Hash::sha256(&nar).bytes().to_vec());
    let expected = match valid {
        Some(seen) => Ok(seen.thing.content.bytes().to_vec()),
        None => Err(format!("path '{path}' is not valid")),
    };
    same("bytes", &nar, &expected)?;
    explanation(play, account, path, &view).await
}

async fn explanation(play: &Play, account: usize, path: &StorePath, view: &View) -> Result<(), String> {
    let explanation = play.explain(account, path).await;
    let chosen = view.chosen.get(path);
    same("explained as valid", &explanation.valid, &chosen.is_some())?;
    let service: Vec<_> = explanation
        .candidates
        .into_iter()
        .map(|c| (c.content, c.nar_size, c.why, c.chosen, c.missing))
        .collect();
    let candidates = view.candidates.get(path).into_iter().flatten();
    let rules: Vec<_> = candidates
        .map(|seen| {
            let thing = &seen.thing;
            let missing = thing.references.iter();
            let missing = missing.filter(|r| *r != path && !view.chosen.contains_key(*r));
            (
                thing.content.to_string(),
                thing.size,
                seen.words.clone(),
                chosen.is_some_and(|c| c.thing == *thing),
                missing.cloned().collect(),
            )
        })
        .collect();
    same("explanation", &service, &rules)
}
