//! The adapters that the binary runs on.

use firn_builder::LocalBuilder;
use firn_cache::CacheClient;
use firn_db::AnyDatabase;
use firn_service::ports::Ports;

/// The real world.
pub struct Live;

impl Ports for Live {
    type Database = AnyDatabase;
    type Builder = LocalBuilder;
    type Caches = CacheClient;
}

/// The service on it.
pub type House = firn_service::House<Live>;
