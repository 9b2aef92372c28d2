unpack "$folder"
cat > config.h <<EOF
#define STDC_HEADERS 1
#define HAVE_ALLOCA_H 1
#define HAVE_UNISTD_H 1
#define HAVE_STDINT_H 1
#define HAVE_INTTYPES_H 1
#define HAVE_SYS_TIME_H 1
#define HAVE_SYS_TIMES_H 1
#define HAVE_SYS_TYPES_H 1
#define SIZEOF_INT 4
#define SIZEOF_LONG 8
#define SIZEOF_LONG_LONG 8
#define SIZEOF_VOIDP 8
#define PACKAGE "onig"
#define VERSION "6.9.10"
EOF
compile -DHAVE_CONFIG_H -I. -- $(ls *.c | grep -v -E '^(mktable|unicode_egcb_data|unicode_wb_data|unicode_property_data|unicode_property_data_posix|unicode_fold_data)\.c$')
llvm-ar rcs libonig.a obj/*.o
install 444 lib libonig.a
install 444 include oniguruma.h
