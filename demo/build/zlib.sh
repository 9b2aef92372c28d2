unpack "$folder"
compile -DHAVE_UNISTD_H -DZ_HAVE_UNISTD_H -- *.c
llvm-ar rcs libz.a obj/*.o
install 444 lib libz.a
install 444 include zlib.h zconf.h
