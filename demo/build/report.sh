# Everything at work: measure how the compressors do on real text, keep the numbers in a database, compute, write JSON and XML, draw.
mkdir -p "$out"
for text in $texts; do
  name=${text##*/}
  name=${name#*-}
  echo "insert into size values ('$name', $(wc -c < "$text"), $("$bzip2/bin/bzip2" -9 < "$text" | wc -c), $(lz4 -9 < "$text" | wc -c));"
done > rows.sql
sqlite "$out/sizes.db" "create table size (file text, plain int, bzip2 int, lz4 int); $(cat rows.sql)"
sqlite "$out/sizes.db" 'select file, plain, bzip2, lz4 from size order by file' > sizes.txt
lua "$table" < sizes.txt > sizes.json
jq '{ files: length, best: (min_by(.bzip2) | .file), rows: . }' sizes.json > "$out/report.json"
jq -r '"<report>", (.rows[] | "  <file name=\"\(.file)\" bzip2=\"\(.bzip2)\" lz4=\"\(.lz4)\"/>"), "</report>"' "$out/report.json" > "$out/report.xml"
[ -z "$(xmlwf "$out/report.xml")" ]
jq '.rows[].bzip2' "$out/report.json" | chart > "$out/report.png"
printf '#!%s/bin/sh\nexec %s/bin/jq "$@" . %s/report.json\n' "$busybox" "$jq" "$out" > "$out/show"
chmod 555 "$out/show"
"$out/show" -c
