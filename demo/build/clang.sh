# Clang, LLD and llvm-ar are all in the one static program `zig`; its own driver and standard library stay behind.
mkdir -p "$out/bin" "$out/include"
unzip -q "$src" ziglang/zig 'ziglang/lib/include/*.h' -d .
mv ziglang/zig "$out/bin/zig"
chmod 555 "$out/bin/zig"
cd ziglang/lib/include
rm -r -- *_wrappers
rm -f -- arm* riscv* hexagon* hvx* opencl* altivec.h msa.h velintrin* vecintrin.h wasm* sifive* s390* __clang_cuda* __clang_hip*
cp -- *.h "$out/include/"
# Not `ar`: busybox's shell prefers its own applets to whatever PATH has.
printf '#!%s/bin/sh\nexec %s/bin/zig ar "$@"\n' "$busybox" "$out" > "$out/bin/llvm-ar"
printf '#!%s/bin/sh\nexec %s/bin/zig ld.lld --build-id=none -s "$@"\n' "$busybox" "$out" > "$out/bin/ld"
cat > "$out/bin/clang" <<EOF
#!$busybox/bin/sh
exec $out/bin/zig clang --target=x86_64-linux-musl --sysroot=$out -nostdinc -fno-PIE -fno-ident -w --ld-path=$out/bin/ld "\$@" -isystem $out/include
EOF
chmod 555 "$out"/bin/*
