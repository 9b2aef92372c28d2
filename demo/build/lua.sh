unpack "$folder"
compile -DLUA_USE_POSIX -- *.c
llvm-ar rcs liblua.a obj/*.o
# The crate has the library only, so the interpreter is ours.
cc -O1 -I. "$source" -o lua -L. -llua $libs -lm
./lua "$check"
install 555 bin lua
install 444 lib liblua.a
install 444 include lua.h luaconf.h lualib.h lauxlib.h
