unpack "$folder"
# As its Makefile does: the standard library becomes C strings.
sed 's/\\/\\\\/g; s/"/\\"/g; s/^/"/; s/$/\\n"/' src/builtin.jq > src/builtin.inc
echo "#define JQ_VERSION \"$version\"" > src/version.h
has=
for name in MEMMEM MKSTEMP TIMEGM GMTIME_R GMTIME STRPTIME MKTIME ISATTY SETLOCALE TM_TM_GMT_OFF PTHREAD_KEY_CREATE PTHREAD_ONCE ATEXIT \
  SIN COS TAN FLOOR CEIL SQRT POW LOG LOG2 LOG10 EXP EXP2 FABS FMIN FMAX FMA FMOD ROUND TRUNC LIBONIG; do
  has="$has -DHAVE_$name=1"
done
compile -std=gnu99 -D_GNU_SOURCE -DIEEE_8087=1 $has -I. -Isrc -- $(ls src/*.c | grep -v inject_errors)
cc obj/*.o -o jq $libs -lonig -lm
[ "$(echo '{"a":[1,2,3]}' | ./jq -c '.a | map(. + 1)')" = '[2,3,4]' ]
[ "$(echo '"snow on old snow"' | ./jq -r 'gsub("(?<w>snow)"; "firn")')" = 'firn on old firn' ]
install 555 bin jq
