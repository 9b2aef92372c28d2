# The C library: musl as released, less what no package here needs (sockets, wide characters, message queues, crypt, …; libm is its own
# package), and `cc`, which is Clang with this library.
unzip -q "$src" 'ziglang/lib/libc/musl/*' 'ziglang/lib/libc/include/generic-musl/*' 'ziglang/lib/libc/include/x86_64-linux-musl/*' -d .
cd ziglang/lib/libc
mkdir -p "$out/include" "$out/lib" "$out/bin"
cp -r include/generic-musl/. include/x86_64-linux-musl/. "$out/include/"
. "$muslParts"
with='conf/* ctype/* dirent/* env/* errno/* exit/* fcntl/* internal/* locale/* malloc/* malloc/mallocng/* mman/* prng/* setjmp/* signal/* stat/* stdio/* stdlib/* string/* temp/* time/* unistd/*
  fenv/fenv fenv/__flt_rounds legacy/getpagesize linux/brk linux/clone linux/getrandom linux/sbrk linux/sysinfo linux/utimes linux/wait4
  math/__fpclassify* math/__signbit* math/copysign* math/fmod math/fmodl math/frexp* math/scalbn*
  misc/*name misc/getauxval misc/getopt* misc/get*priority misc/getr* misc/ioctl misc/realpath misc/setpriority
  multibyte/btowc multibyte/internal multibyte/mb* multibyte/wcrtomb multibyte/wctomb
  network/connect network/sendmsg network/socket passwd/getpw_a passwd/getpwent* passwd/nscd_query
  process/exec* process/*ork process/posix_spawn* process/system process/wait*
  thread/__* thread/clone thread/default_attr thread/pthread_*cancel* thread/pthread_*specific thread/pthread_cleanup* thread/pthread_key* thread/pthread_mutex_*
  thread/pthread_once* thread/pthread_rwlock* thread/pthread_self thread/pthread_sigmask thread/syscall_cp'
without='conf/confstr conf/legacy ctype/isw* ctype/tow* ctype/wc* dirent/*dir_r dirent/scandir dirent/*sort errno/strerror_r
  locale/*textdomain locale/bind* locale/cat* locale/dcn* locale/*locale_*d locale/freelocale locale/*wcs* locale/iconv* locale/newlocale locale/pleval locale/strfmon
  locale/uselocale misc/*domainname misc/sethostname mman/*lock* mman/mincore mman/shm* multibyte/mb*c16 multibyte/mb*c32 multibyte/mbsn* prng/*48* prng/random
  process/*chdir process/exec*p process/posix_spawnattr_get* process/posix_spawnattr_sched process/posix_spawnattr_setpgroup process/waitid
  signal/*sigevent* signal/*itimer signal/kill* signal/ps* signal/sig*or* signal/sig*and* signal/sigalt* signal/sighold signal/sigignore signal/siginterrupt signal/sigpa* signal/sigpe* signal/sigq*
  signal/sigr* signal/sigset signal/sigsuspend signal/sigt* signal/sigw* stat/__xstat stat/mk*at stat/mknod stat/mkfifo stat/statvfs
  stdio/*w[csp]* stdio/*wide* stdio/[gp]etw stdio/[gp]utw stdio/__f*_ca stdio/dprintf stdio/ext* stdio/fgetln stdio/f*etpos stdio/fmemopen stdio/fopencookie stdio/open_*
  stdio/tempnam stdio/tmpnam stdio/vdprintf stdlib/[efg]cvt stdlib/imax* stdlib/wcs* string/w* string/strs[ei]* string/strv* string/swab temp/mkdtemp temp/mktemp temp/mkstemps thread/pthread_mutex_*
  thread/pthread_cancel thread/pthread_rwlockattr* time/asctime* time/clock_getcpu* time/clock_settime time/ctime* time/ftime time/getdate time/timer_* time/wcs*
  unistd/*at unistd/acct unistd/alarm unistd/ctermid unistd/get*gid unistd/getgroups unistd/getlogin* unistd/getsid unistd/lchown unistd/nice unistd/pause
  unistd/p*v unistd/set* unistd/sync unistd/tc* unistd/tty* unistd/ualarm'
cd musl
CC=clang
compile $muslFlags -- $(parts "$with" "$without")
llvm-ar rcs "$out/lib/libc.a" obj/*.o
for f in crt/crt1.c crt/x86_64/crti.s crt/x86_64/crtn.s; do
  n=${f##*/}
  clang $muslFlags -O1 -c "$f" -o "$out/lib/${n%.*}.o"
done
cat > "$out/bin/cc" <<EOF
#!$busybox/bin/sh
# Compile, or compile and link a static program.
for arg; do
  case \$arg in
    -c | -E | -S | -M*) exec $clang/bin/clang "\$@" -isystem $out/include ;;
  esac
done
exec $clang/bin/clang -static -nostdlib $out/lib/crt1.o $out/lib/crti.o "\$@" -isystem $out/include -L$out/lib -lc $out/lib/crtn.o
EOF
chmod 555 "$out/bin/cc"
