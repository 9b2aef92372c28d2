unpack "$folder"
CC=cc CFLAGS=-O1 CONFIG_SHELL=$busybox/bin/sh sh ./configure --prefix="$out" --build=x86_64-pc-linux-gnu --disable-shared
compile -DHAVE_EXPAT_CONFIG_H -I. -Ilib -- lib/xmlparse.c lib/xmltok.c lib/xmlrole.c xmlwf/xmlwf.c xmlwf/xmlfile.c xmlwf/codepage.c xmlwf/unixfilemap.c
llvm-ar rcs libexpat.a obj/lib_*.o
cc obj/xmlwf_*.o -o xmlwf/xmlwf -L. -lexpat
echo '<a b="c"><d/></a>' > good.xml
echo '<a><b></a>' > bad.xml
[ -z "$(xmlwf/xmlwf good.xml)" ]
xmlwf/xmlwf bad.xml | grep 'mismatched tag'
install 555 bin xmlwf/xmlwf
install 444 lib libexpat.a
install 444 include lib/expat.h lib/expat_external.h
