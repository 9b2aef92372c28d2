# Which of musl's files make up a library. A file of the processor's own replaces the general one. Used in musl's folder.
muslFlags='-std=c99 -ffreestanding -fomit-frame-pointer -fno-unwind-tables -fno-asynchronous-unwind-tables -D_XOPEN_SOURCE=700
  -Iarch/x86_64 -Iarch/generic -Isrc/include -Isrc/internal -Iinclude -I../include/x86_64-linux-musl -I../include/generic-musl'

# parts WITH WITHOUT: the files whose PART/NAME matches one of the patterns in WITH and none in WITHOUT.
parts() {
  echo "$1" | patterns > with
  echo "$2" | patterns > without
  (cd src && find . -name '*.[cs]') | sed -n 's,^\./,,; s,/x86_64/,/,; s,\.[cs]$,,p' | sort -u | grep -x -f with | grep -v -x -f without |
    while read -r name; do
      for file in "src/${name%/*}/x86_64/${name##*/}".[sc] "src/$name.c"; do
        [ ! -e "$file" ] || { echo "$file"; break; }
      done
    done
}

patterns() {
  sed 's,\*,[^/]*,g' | xargs -n 1
}
