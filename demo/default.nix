# A dozen real packages in plain Nix (2.8 or later; no nixpkgs, no channel, no network inside builds).
#
# `sources` is the folder that `cargo xtask demo` fills from sources.json: the archives, and `seed` (a static busybox and its applets).
# Every source is content-addressed: the evaluator checks it against the lock and adds it to the store it builds in.
{ sources ? ../target/demo-sources }:
let
  lock = builtins.listToAttrs (map (entry: { inherit (entry) name; value = entry; }) (builtins.fromJSON (builtins.readFile ./sources.json)));
  # Not fetched by Nix: a store path by content, from a file that is there already.
  source = name: builtins.path { name = "${name}-${lock.${name}.version}"; path = sources + "/${lock.${name}.file}"; recursive = false; inherit (lock.${name}) sha256; };
  crate = name: folder: { src = source name; folder = "${name}-${lock.${name}.version}/${folder}"; };

  busybox = builtins.path { name = "busybox"; path = sources + "/seed"; };

  # build/NAME.sh makes the package NAME from `src`, with what is in `inputs` on PATH and in $include and $libs.
  package = name: version: attributes: derivation ({
    name = "${name}-${version}";
    system = "x86_64-linux";
    builder = "${busybox}/bin/sh";
    args = [ ./build/setup.sh ];
    script = ./build + "/${name}.sh";
    inherit busybox version;
    inputs = [ ];
  } // attributes);
in
rec {
  clang = package "clang" "18.1.6" { src = source "ziglang"; };
  musl = package "musl" "1.2.5" { src = source "ziglang"; inputs = [ clang ]; inherit clang; muslParts = ./build/musl-parts.sh; };
  libm = package "libm" "1.2.5" { src = source "ziglang"; inputs = [ clang ]; muslParts = ./build/musl-parts.sh; };

  libbz2 = package "libbz2" "1.0.8" (crate "bzip2-sys" "bzip2-1.0.8" // { inputs = [ clang musl ]; });
  bzip2 = package "bzip2" "1.0.8" (crate "bzip2-sys" "bzip2-1.0.8" // { inputs = [ clang musl libbz2 ]; });
  lz4 = package "lz4" "1.10.0" (crate "lz4-sys" "liblz4" // { inputs = [ clang musl ]; });
  expat = package "expat" "2.1.0" (crate "expat-sys" "expat" // { inputs = [ clang musl ]; });

  zlib = package "zlib" "1.3.2" (crate "libz-sys" "src/zlib" // { inputs = [ clang musl ]; });
  libpng = package "libpng" "1.6.50" (crate "libpng-sys" "vendor" // { inputs = [ clang musl zlib ]; });
  chart = package "chart" "1" { inputs = [ clang musl libm zlib libpng ]; source = ./src/chart.c; };

  lua = package "lua" "5.5.1" (crate "lua-src" "lua-5.5.1" // { inputs = [ clang musl libm ]; source = ./src/lua.c; check = ./src/check.lua; });
  sqlite = package "sqlite" "3.54.1" (crate "libsqlite3-sys" "sqlite3" // { inputs = [ clang musl libm ]; source = ./src/sqlite.c; });
  oniguruma = package "oniguruma" "6.9.10" (crate "onig_sys" "oniguruma/src" // { inputs = [ clang musl ]; });
  jq = package "jq" "1.6" (crate "jq-src" "modules/jq" // { inputs = [ clang musl libm oniguruma ]; });

  report = package "report" "1" {
    inputs = [ bzip2 lz4 sqlite lua jq expat chart ];
    inherit bzip2 jq;
    table = ./src/table.lua;
    texts = [ ./src/chart.c ./src/lua.c ./src/sqlite.c ./src/check.lua ./build/setup.sh ];
  };

  # In dependency order.
  all = [ clang musl libm libbz2 bzip2 lz4 expat zlib libpng chart lua sqlite oniguruma jq report ];
  # A library and the program that links it, for tests; their compiler and C library are most of the work.
  quick = [ libbz2 bzip2 ];
}
