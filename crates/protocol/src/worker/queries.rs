//! Requests without bodies and events.

use std::collections::BTreeSet;

use firn_nix::{PathInfo, StorePath};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Request;
use super::answer::Failure;
use super::session::Session;
use crate::Store;
use crate::codec::RealisationForm;
use crate::drive::send_nar;

impl<S, R, W> Session<'_, S, R, W>
where
    S: Store,
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    pub(super) async fn query(&mut self, request: Request) -> Result<(), Failure> {
        match request {
            Request::IsValidPath(path) => {
                let valid = self.valid(BTreeSet::from([path]), false).await?;
                self.reply().bool(!valid.is_empty());
            }
            Request::QueryValidPaths { paths, substitute } => {
                let valid = self.valid(paths, substitute).await?;
                self.reply().paths(&valid);
            }
            Request::QueryPathInfo(path) => match self.info(path).await? {
                Some(info) => {
                    self.reply().bool(true).unkeyed_path_info(&info);
                }
                None => {
                    self.reply().bool(false);
                }
            },
            Request::QueryDeriver(path) => {
                let info = self.info(path.clone()).await?.ok_or_else(|| not_valid(&path))?;
                self.reply().optional_path(info.deriver.as_ref());
            }
            Request::QueryReferrers(path) => {
                let found = self.ask(self.store.query_referrers(path)).await?;
                self.reply().paths(&found);
            }
            Request::QueryValidDerivers(path) => {
                let found = self.ask(self.store.query_valid_derivers(path)).await?;
                self.reply().paths(&found);
            }
            Request::QueryAllValidPaths => {
                let found = self.ask(self.store.query_all_valid_paths()).await?;
                self.reply().paths(&found);
            }
            Request::QueryPathFromHashPart(part) => {
                let found = self.ask(self.store.query_path_from_hash_part(part)).await?;
                self.reply().optional_path(found.as_ref());
            }
            Request::QueryDerivationOutputs(path) => {
                let outputs = self.ask(self.store.query_derivation_outputs(path)).await?;
                let known: BTreeSet<StorePath> = outputs.into_values().flatten().collect();
                self.reply().paths(&known);
            }
            Request::QueryDerivationOutputNames(path) => {
                let outputs = self.ask(self.store.query_derivation_outputs(path)).await?;
                self.reply().texts(outputs.keys());
            }
            Request::QueryDerivationOutputMap(path) => {
                let outputs = self.ask(self.store.query_derivation_outputs(path)).await?;
                self.reply().list(&outputs, |e, (name, path)| {
                    e.text(name).optional_path(path.as_ref());
                });
            }
            Request::QueryMissing(targets) => {
                let missing = self.ask(self.store.query_missing(targets)).await?;
                self.reply()
                    .paths(&missing.will_build)
                    .paths(&missing.will_substitute)
                    .paths(&missing.unknown)
                    .u64(missing.download_size)
                    .u64(missing.nar_size);
            }
            Request::EnsurePath(path) => {
                self.ask(self.store.ensure_path(path)).await?;
                self.reply().u64(1);
            }
            Request::AddSignatures(path, signatures) => {
                self.ask(self.store.add_signatures(path, signatures)).await?;
                self.reply().u64(1);
            }
            Request::RegisterDrvOutput(realisation) => {
                self.ask(self.store.register_realisation(realisation)).await?;
                self.reply();
            }
            Request::QueryRealisation(id) => {
                let found = self.ask(self.store.query_realisation(id)).await?;
                let form = self.version.realisation_form();
                self.reply().list(&found, |e, realisation| {
                    match form {
                        RealisationForm::Names => e.path(&realisation.out_path),
                        RealisationForm::Json => e.text(&realisation.to_json()),
                        RealisationForm::Fields => e.unkeyed_realisation(realisation),
                    };
                });
            }
            other => return self.formality(&other),
        }
        Ok(())
    }

    /// Answers that follow from what this store is: it keeps its own roots, collects its own garbage, and offers nothing that it does
    /// not have.
    fn formality(&mut self, request: &Request) -> Result<(), Failure> {
        match request {
            // What a client touches is held as long as it needs it, asked for or not.
            Request::AddTempRoot(_)
            | Request::AddIndirectRoot(_)
            | Request::SyncWithGC
            | Request::OptimiseStore => self.reply().u64(1),
            Request::FindRoots => self.reply().len(0),
            Request::VerifyStore => self.reply().bool(false),
            Request::QuerySubstitutablePathInfo(_) => self.reply().bool(false),
            Request::QuerySubstitutablePathInfos(_) | Request::QuerySubstitutablePaths(_) => {
                self.reply().len(0)
            }
            Request::CollectGarbage => {
                return Err(Failure::refused(
                    "this store collects its garbage itself; clients cannot delete paths",
                ));
            }
            Request::AddPermRoot => {
                return Err(Failure::refused(
                    "this store keeps no roots for clients; make the root on the client",
                ));
            }
            other => {
                let text = format!("operation {} is not supported", other.op().name());
                return Err(Failure::refused(text));
            }
        };
        Ok(())
    }

    pub(super) async fn nar_from_path(&mut self, path: StorePath) -> Result<(), Failure> {
        let nar = self.ask(self.store.nar_from_path(path)).await?;
        self.reply();
        Ok(send_nar(&mut self.reader, &mut self.writer, nar, self.during).await?)
    }

    async fn valid(
        &mut self,
        paths: BTreeSet<StorePath>,
        substitute: bool,
    ) -> Result<BTreeSet<StorePath>, Failure> {
        self.ask(self.store.query_valid_paths(paths, substitute)).await
    }

    async fn info(&mut self, path: StorePath) -> Result<Option<PathInfo>, Failure> {
        let infos = self.ask(self.store.query_path_infos(vec![path])).await?;
        Ok(infos.into_iter().next())
    }
}

fn not_valid(path: &StorePath) -> Failure {
    Failure::refused(format!("path '{path}' is not valid"))
}
