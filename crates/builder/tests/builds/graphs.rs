//! `exportReferencesGraph` and structured attributes.

use super::Pair;

#[tokio::test]
async fn registration_texts() {
    let Some(pair) = Pair::new() else { return };
    let built = pair
        .agree(
            r#"let a = sh "a" "echo a > $out" {}; b = sh "b" "echo ${a} $out > $out; ln -s $out $dev" { outputs = [ "out" "dev" ]; };
               in sh "graph" "cd /build; stat -c '%n %a %u' one two >> $out; cat one two >> $out" {
                    exportReferencesGraph = [ "one" "${b}/sub/path" "two" b.dev ];
               }"#,
        )
        .await;
    assert!(built["out"].escape_ascii().to_string().contains("-b-dev"));
}

#[tokio::test]
async fn derivations_in_a_graph() {
    let Some(pair) = Pair::new() else { return };
    let built = pair
        .agree(
            r#"let a = sh "a" "echo a > $out" {}; b = sh "b" "echo ${a} > $out" {};
               in sh "graph" "cat /build/graph > $out" { exportReferencesGraph = [ "graph" b.drvPath ]; }"#,
        )
        .await;
    assert!(built["out"].escape_ascii().to_string().contains("-b.drv"));
}

#[tokio::test]
async fn structured_attributes() {
    let Some(pair) = Pair::new() else { return };
    pair.agree(
        r#"sh "attrs" ''
            export PATH=${bb}
            cd /build; ls -A | grep -v '^env-vars$' > ${placeholder "out"}
            stat -c '%n %a %u %g' .attrs.json .attrs.sh >> ${placeholder "out"}
            cat .attrs.json .attrs.sh >> ${placeholder "out"}
            env | grep -v ^NIX_ATTRS_ | sort >> ${placeholder "out"}
            echo dev > ${placeholder "dev"}
        '' {
            __structuredAttrs = true; outputs = [ "out" "dev" ];
            text = "it's \"quoted\" \n ünï"; yes = true; no = false; nothing = null; int = 42; neg = -7;
            list = [ 1 "two" ]; empty = [ ]; nested = [ [ 1 ] { a = 1; } ]; set = { a = 1; "b c" = "x"; };
            "not-a-name" = 1; float = 1.5; hole = placeholder "dev"; passAsFile = [ "text" ];
        }"#,
    )
    .await;
}

/// Nix 2.26 and newer say `"valid":true` of each path, 2.8 does not.
#[tokio::test]
async fn structured_graph() {
    let Some(pair) = Pair::new() else { return };
    pair.agree(
        r#"let a = sh "a" "echo a > $out" {}; b = sh "b" "echo ${a} > $out" {};
               source = builtins.toFile "text" "see ${builtins.toFile "other" "x"}";
           in sh "attrs" "export PATH=${bb}; sed 's/,\"valid\":true//g' /build/.attrs.json > ${placeholder "out"}" {
            __structuredAttrs = true;
            exportReferencesGraph = { graph = [ b ]; other = [ source a ]; };
        }"#,
    )
    .await;
}
