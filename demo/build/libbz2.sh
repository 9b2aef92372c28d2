unpack "$folder"
compile -D_FILE_OFFSET_BITS=64 -- blocksort.c huffman.c crctable.c randtable.c compress.c decompress.c bzlib.c
llvm-ar rcs libbz2.a obj/*.o
install 444 lib libbz2.a
install 444 include bzlib.h
