//! What becomes of outputs.

use super::Pair;

#[tokio::test]
async fn every_kind_of_file() {
    let Some(pair) = Pair::new() else { return };
    pair.agree(
        r#"sh "kinds" ''
            mkdir -p $out/dir/empty $out/locked
            echo plain > $out/plain; : > $out/nothing
            echo run > $out/run; chmod 755 $out/run
            echo odd > $out/odd; chmod 070 $out/odd; touch -d '2001-02-03 04:05' $out/odd
            echo own > $out/own; chmod 0100 $out/own
            echo open > $out/open; chmod 666 $out/open
            ln $out/plain $out/dir/hard; ln $out/run $out/dir/hard-run
            ln -s ../plain $out/dir/link; ln -s /nowhere $out/dangling; ln -s $out $out/self
            echo x > $out/locked/x; chmod 0 $out/locked
            mkdir "$out/name with blanks"; : > "$out/$(printf 'odd\nname\377')"
            mkfifo $out.other; echo stray > $out-stray
        '' {}"#,
    )
    .await;
}

#[tokio::test]
async fn outputs_that_are_no_directories() {
    let Some(pair) = Pair::new() else { return };
    pair.agree(r#"sh "link" "ln -s /nix/store/nowhere $out" {}"#)
        .await;
    pair.agree(r#"sh "link-to-input" "ln -s ${bb}/sh $out" {}"#).await;
    pair.agree(r#"sh "file" "echo hello > $out; chmod +x $out" {}"#)
        .await;
}

#[tokio::test]
async fn references() {
    let Some(pair) = Pair::new() else { return };
    pair.agree(
        r#"let
            a = sh "a" "echo a > $out" {};
            b = sh "b" "echo ${a} > $out" {};
          in sh "refs" ''
            mkdir $out
            echo see ${b} > $out/b
            echo $out > $out/self
            ln -s ${bb}/sh $out/sh
            head -c 70000 /dev/zero > $out/large; echo ${a} >> $out/large
          '' { outputs = [ "out" ]; unused = sh "unused" "echo u > $out" {}; }"#,
    )
    .await;
}

#[tokio::test]
async fn several_outputs() {
    let Some(pair) = Pair::new() else { return };
    pair.agree(
        r#"sh "multi" ''
            mkdir $out $dev; echo doc > $doc
            echo $doc > $out/doc; echo $out $dev > $dev/out
        '' { outputs = [ "dev" "out" "doc" ]; }"#,
    )
    .await;
}

#[tokio::test]
async fn placeholders() {
    let Some(pair) = Pair::new() else { return };
    let built = pair
        .agree(
            r#"sh "holes" "echo ${placeholder "out"} $text > $out; cat $filePath > $dev; tr '\\0' '\\n' < /proc/1/environ | grep ^HOLE >> $dev" {
                outputs = [ "out" "dev" ];
                text = "a ${placeholder "out"} b";
                passAsFile = [ "file" ];
                file = "in a file: ${placeholder "out"}";
                "HOLE_${placeholder "out"}" = "name";
            }"#,
        )
        .await;
    assert!(built["dev"].starts_with(b"in a file: /nix/store/"));
}

#[tokio::test]
async fn pass_as_file() {
    let Some(pair) = Pair::new() else { return };
    let built = pair
        .agree(
            r#"sh "files" ''
                cd /build; ls -A > $out; stat -c '%a %u %g %s' .attr-* . >> $out
                echo $longPath $shortPath "''${long-unset}" >> $out; cat $longPath $shortPath >> $out; pwd >> $out
            '' { passAsFile = [ "long" "short" "absent" ]; long = "line\n\ttab \$ 'quotes' \\"; short = ""; }"#,
        )
        .await;
    assert!(built["out"].escape_ascii().to_string().contains("unset"));
}

#[tokio::test]
async fn checks_that_hold() {
    let Some(pair) = Pair::new() else { return };
    pair.agree(
        r#"let a = sh "a" "echo a > $out" {}; b = sh "b" "echo ${a} > $out" {};
           in sh "ok" "echo ${b} $out > $out; echo $out > $dev" {
                outputs = [ "out" "dev" ];
                allowedReferences = [ b "out" ]; allowedRequisites = [ a b "out" ];
                disallowedReferences = [ a bb "dev" ]; disallowedRequisites = [ bb "dev" ];
              }"#,
    )
    .await;
}
