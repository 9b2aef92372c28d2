cc -O1 $include "$source" -o chart $libs -lpng -lz -lm
install 555 bin chart
mkdir -p "$out/share"
seq 1 60 | awk '{ print ($1 * $1) % 97 }' | ./chart > "$out/share/squares.png"
