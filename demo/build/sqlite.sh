unpack "$folder"
# Unoptimised: this one file would take as long as all other packages together.
compile -O0 -DSQLITE_THREADSAFE=0 -DSQLITE_OMIT_LOAD_EXTENSION -DSQLITE_OMIT_DEPRECATED -DSQLITE_DEFAULT_MEMSTATUS=0 -DSQLITE_DQS=0 -- sqlite3.c
llvm-ar rcs libsqlite3.a obj/*.o
cc -O1 -I. "$source" -o sqlite -L. -lsqlite3 $libs -lm
./sqlite :memory: 'select sqlite_version()'
install 555 bin sqlite
install 444 lib libsqlite3.a
install 444 include sqlite3.h
