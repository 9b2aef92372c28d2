//! Numbers and names of the operations.

macro_rules! operations {
    ($($number:literal $name:ident)*) => {
        /// An operation of the worker protocol, by Nix's name (`WorkerProto::Op`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u64)]
        pub enum Op {
            $(
                #[doc = concat!("Number ", stringify!($number), ".")]
                $name = $number,
            )*
        }

        impl Op {
            /// Every operation, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The operation of that number.
            #[must_use]
            pub const fn from_number(number: u64) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Nix's name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

operations! {
    1 IsValidPath
    6 QueryReferrers
    7 AddToStore
    8 AddTextToStore
    9 BuildPaths
    10 EnsurePath
    11 AddTempRoot
    12 AddIndirectRoot
    13 SyncWithGC
    14 FindRoots
    18 QueryDeriver
    19 SetOptions
    20 CollectGarbage
    21 QuerySubstitutablePathInfo
    22 QueryDerivationOutputs
    23 QueryAllValidPaths
    26 QueryPathInfo
    28 QueryDerivationOutputNames
    29 QueryPathFromHashPart
    30 QuerySubstitutablePathInfos
    31 QueryValidPaths
    32 QuerySubstitutablePaths
    33 QueryValidDerivers
    34 OptimiseStore
    35 VerifyStore
    36 BuildDerivation
    37 AddSignatures
    38 NarFromPath
    39 AddToStoreNar
    40 QueryMissing
    41 QueryDerivationOutputMap
    42 RegisterDrvOutput
    43 QueryRealisation
    44 AddMultipleToStore
    45 AddBuildLog
    46 BuildPathsWithResults
    47 AddPermRoot
}
