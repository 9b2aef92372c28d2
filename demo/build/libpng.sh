unpack "$folder"
cp scripts/pnglibconf.h.prebuilt pnglibconf.h
compile -DPNG_INTEL_SSE_OPT=0 -- $(ls png*.c | grep -v pngtest)
llvm-ar rcs libpng.a obj/*.o
install 444 lib libpng.a
install 444 include png.h pngconf.h pnglibconf.h
# Who links this library needs these too.
echo "$inputs" > "$out/lib/libpng.needs"
