# musl's mathematics, as the library that -lm asks for.
unzip -q "$src" 'ziglang/lib/libc/musl/*' 'ziglang/lib/libc/include/generic-musl/*' 'ziglang/lib/libc/include/x86_64-linux-musl/*' -d .
cd ziglang/lib/libc/musl
. "$muslParts"
CC=clang
compile $muslFlags -- $(parts 'math/*' nothing)
llvm-ar rcs libm.a obj/*.o
install 444 lib libm.a
