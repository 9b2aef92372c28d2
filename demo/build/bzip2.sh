unpack "$folder"
cc -O1 -D_FILE_OFFSET_BITS=64 $include bzip2.c -o bzip2 $libs -lbz2
# The release's own check: its three samples, both ways.
./bzip2 -1 < sample1.ref | cmp - sample1.bz2
./bzip2 -2 < sample2.ref | cmp - sample2.bz2
./bzip2 -d < sample1.bz2 | cmp - sample1.ref
./bzip2 -ds < sample3.bz2 | cmp - sample3.ref
install 555 bin bzip2
ln -s bzip2 "$out/bin/bunzip2"
