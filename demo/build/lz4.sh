unpack "$folder"
compile -Ilib -DXXH_NAMESPACE=LZ4_ -- lib/*.c programs/*.c
llvm-ar rcs liblz4.a obj/lib_*.o
cc obj/programs_*.o -o lz4 -L. -llz4
./lz4 -9 < lib/lz4.c | ./lz4 -d | cmp - lib/lz4.c
install 555 bin lz4
install 444 lib liblz4.a
install 444 include lib/lz4.h lib/lz4hc.h lib/lz4frame.h
