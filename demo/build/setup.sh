# What every package's script starts with. Nix sets: busybox, inputs (store paths), src (an archive, or empty), strip, script, out.
set -eu
export PATH=$busybox/bin SOURCE_DATE_EPOCH=1 LC_ALL=C
jobs=${NIX_BUILD_CORES:-1}
[ "$jobs" -gt 0 ] || jobs=$(nproc)
include= libs=
for input in $inputs; do
  [ ! -d "$input/bin" ] || PATH=$input/bin:$PATH
  [ ! -d "$input/include" ] || include="$include -I$input/include"
  [ ! -d "$input/lib" ] || libs="$libs -L$input/lib"
done

# unpack FOLDER: the .crate (a gzipped tarball); that folder of it becomes the current directory.
unpack() {
  tar -xzf "$src"
  cd "$1"
}

# compile FLAG... -- FILE...: one object per file, in obj/, as many at a time as the build may use cores.
compile() {
  flags=
  while [ "$1" != -- ]; do flags="$flags $1"; shift; done
  shift
  mkdir -p obj
  for file; do
    object=${file//\//_}
    printf '%s\n%s\n' "$file" "-oobj/${object%.*}.o"
  done | xargs -P "$jobs" -n 2 ${CC:-cc} -O1 $flags $include -c
}

# install MODE FOLDER FILE...: below $out.
install() {
  mode=$1
  folder=$out/$2
  shift 2
  mkdir -p "$folder"
  cp "$@" "$folder/"
  for file; do chmod "$mode" "$folder/${file##*/}"; done
}

. "$script"
