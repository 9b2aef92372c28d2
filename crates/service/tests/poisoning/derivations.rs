//! Derivations that are not Alice's and say that they make her output.

use firn_nix::derivation::DerivationKind;
use firn_nix::{BasicDerivation, CaMethod, ContentAddress, DerivationOutput, HashAlgo, StorePath};
use firn_protocol::{BuildStatus, Store as _};

use super::{Stage, sources, victim};
use crate::support::{Drv, build, bytes, is_valid, path, upload};

type Change<'a> = &'a dyn Fn(&mut BasicDerivation);

/// Mallory, with Alice's inputs, builds a changed derivation under the same name and output path; whether she may is not the question.
async fn built_first(change: Change<'_>) -> BuildStatus {
    let stage = Stage::new().await;
    let [input, deep] = sources();
    upload(&stage.mallory, &[&deep, &input]).await.unwrap();
    let drv = victim();
    let mut other = drv.clone();
    change(&mut other.drv);
    assert_ne!(other.drv, drv.drv, "nothing was changed");
    let status = build(&stage.mallory, &other).await.done().status;
    assert!(!is_valid(&stage.alice, &drv.out()).await);
    let before = stage.runs();
    stage.unharmed(&[&deep, &input], &drv).await;
    assert_eq!(stage.runs(), before + 1, "Alice's build was not run");
    status
}

/// The same where it must not be built at all.
async fn refused(change: Change<'_>) {
    assert_eq!(built_first(change).await, BuildStatus::InputRejected);
}

fn set(name: &[u8], value: &[u8]) -> impl Fn(&mut BasicDerivation) {
    move |drv| drop(drv.env.insert(name.to_vec(), value.to_vec()))
}

/// One test for each; the comment says what is tried.
macro_rules! attempts {
    ($how:ident: $($(#[$about:meta])* $name:ident: $change:expr;)*) => {$(
        $(#[$about])*
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            $how(&$change).await;
        }
    )*};
}

attempts! { built_first:
    /// Another builder behind the same output path.
    another_builder: |d: &mut BasicDerivation| d.builder = b"/bin/bash".to_vec();
    /// The same file under another spelling, which `argv[0]` shows.
    another_spelling_of_the_builder: |d: &mut BasicDerivation| d.builder = b"//bin/sh".to_vec();
    /// The first argument as the builder and the rest after it.
    builder_moved_into_the_arguments: |d: &mut BasicDerivation| {
        let builder = std::mem::replace(&mut d.builder, b"log:one\n".to_vec());
        d.args[0] = [b"log:", &builder[..]].concat();
    };
    /// Another argument.
    another_argument: |d: &mut BasicDerivation| d.args[1] = b"log:2\n".to_vec();
    /// The same arguments in another order.
    arguments_in_another_order: |d: &mut BasicDerivation| d.args.swap(0, 1);
    /// Two arguments that are one when put together.
    arguments_put_together: |d: &mut BasicDerivation| d.args = vec![d.args.concat()];
    /// A byte that moves from one argument to the next.
    a_byte_moved_between_arguments: |d: &mut BasicDerivation| d.args = vec![b"log:one".to_vec(), b"log:\ntwo\n".to_vec()];
    /// An empty argument at the end.
    an_empty_argument: |d: &mut BasicDerivation| d.args.push(b"log:".to_vec());
    /// A variable less.
    a_variable_left_out: |d: &mut BasicDerivation| drop(d.env.remove(&b"A"[..]));
    /// A variable more, without a value.
    an_empty_variable: set(b"C", b"");
    /// A byte that moves from a value to the next value: A=12, B=3.
    a_byte_moved_between_values: |d: &mut BasicDerivation| { set(b"A", b"12")(d); set(b"B", b"3")(d) };
    /// A byte that moves from a name to its value.
    a_byte_moved_from_name_to_value: |d: &mut BasicDerivation| { d.env.remove(&b"name"[..]); set(b"nam", b"ething")(d) };
    /// Values exchanged.
    values_exchanged: |d: &mut BasicDerivation| { set(b"A", b"23")(d); set(b"B", b"1")(d) };
    /// The variable as an argument.
    a_variable_as_argument: |d: &mut BasicDerivation| { d.env.remove(&b"A"[..]); d.args.push(b"log:A=1".to_vec()) };
    /// A name with an equals sign: the kernel would be given A=1 twice.
    a_name_with_an_equals_sign: set(b"A=1", b"");
    /// A name that differs in case, besides.
    a_name_in_another_case: |d: &mut BasicDerivation| { d.env.remove(&b"A"[..]); set(b"a", b"1")(d) };
    /// The same text in another normal form (é as e and an accent), as value.
    a_value_in_another_normal_form: set("caf\u{e9}".as_bytes(), "e\u{301}".as_bytes());
    /// The same, as name.
    a_name_in_another_normal_form: |d: &mut BasicDerivation| {
        d.env.remove("caf\u{e9}".as_bytes());
        set("cafe\u{301}".as_bytes(), "\u{e9}".as_bytes())(d);
    };
    /// Bytes that are not UTF-8 where a careless reader puts U+FFFD or reads Latin-1.
    bytes_that_are_not_text: set("caf\u{e9}".as_bytes(), b"\xe9");
    /// Trailing blanks and line ends.
    blanks_at_the_end: set(b"A", b"1 \n");
    /// Attributes as JSON beside the variables, which hides the variables from the builder.
    structured_attributes_beside_variables: set(b"__json", br#"{"A":"1","B":"23"}"#);
    /// JSON that two readers read in two ways: the same member twice.
    a_member_twice: set(b"__json", br#"{"A":"1","A":"2"}"#);
    /// JSON that says its outputs itself.
    outputs_in_json: set(b"__json", br#"{"outputs":{"out":"/nix/store/00000000000000000000000000000002-x"}}"#);
    /// The value in a file.
    a_value_in_a_file: set(b"passAsFile", b"A");
    /// The inputs' graph in a file.
    a_graph_of_the_inputs: |d: &mut BasicDerivation| set(b"exportReferencesGraph", format!("graph {}", path("input")).as_bytes())(d);
    /// Attributes that only schedule.
    attributes_that_only_schedule: set(b"preferLocalBuild", b"1");
    /// References that are taken to be none.
    references_discarded: set(b"references", b"");
    /// A reference more, to the output itself.
    a_reference_to_itself: |d: &mut BasicDerivation| {
        let both = [&d.env[&b"references"[..]][..], b" ", &d.env[&b"out"[..]][..]].concat();
        set(b"references", &both)(d);
    };
    /// A second output beside Alice's.
    an_output_more: |d: &mut BasicDerivation| {
        d.outputs.insert("dev".into(), DerivationOutput::InputAddressed(path("thing-dev")));
    };
    /// What Firn reads as a setting.
    a_setting_as_attribute: set(b"FIRN_SHARE_BUILDS", b"1");
}

attempts! { refused:
    /// NUL, where C would end the value: "1" to the builder, "1\0…" to the key.
    nul_in_a_value: set(b"A", b"1\0x");
    /// The same in a name.
    nul_in_a_name: set(b"A\0", b"1");
    /// The same in an argument.
    nul_in_an_argument: |d: &mut BasicDerivation| d.args[1] = b"log:two\n\0".to_vec();
    /// A value that goes on as the key's encoding would: length, name, length, value. Lengths have zero bytes.
    a_value_that_continues_the_encoding: |d: &mut BasicDerivation| {
        d.env.remove(&b"B"[..]);
        set(b"A", b"1\x01\0\0\0\0\0\0\0B\x02\0\0\0\0\0\0\x0023")(d);
    };
    /// A platform with a blank, which is none that is offered.
    a_platform_with_a_blank: |d: &mut BasicDerivation| d.platform = b"x86_64-linux ".to_vec();
    /// A platform in capitals.
    a_platform_in_capitals: |d: &mut BasicDerivation| d.platform = b"X86_64-LINUX".to_vec();
    /// A platform that looks like the offered one when it is printed.
    a_platform_that_is_escaped: |d: &mut BasicDerivation| d.platform = b"x86_64-linux\\x00".to_vec();
    /// One that Nix has built in, which is not on offer.
    a_builtin_builder: |d: &mut BasicDerivation| d.builder = b"builtin:fetchurl".to_vec();
    /// The same by its platform.
    a_builtin_platform: |d: &mut BasicDerivation| d.platform = b"builtin".to_vec();
    /// No sandbox.
    no_sandbox: set(b"__noChroot", b"1");
    /// A result that may differ each time.
    impure: set(b"__impure", b"1");
    /// No sandbox, in JSON.
    no_sandbox_in_json: set(b"__json", br#"{"__noChroot":true}"#);
    /// An output whose name is a path.
    an_output_named_as_a_path: |d: &mut BasicDerivation| {
        d.outputs.insert("../thing".into(), DerivationOutput::InputAddressed(path("thing")));
    };
    /// Alice's path as the output of another name.
    the_output_under_another_name: |d: &mut BasicDerivation| {
        let out = d.outputs.remove("out").unwrap();
        d.outputs.insert("OUT".into(), out);
    };
    /// Alice's path as an output with an expected hash that leads elsewhere.
    the_output_as_a_fixed_one: |d: &mut BasicDerivation| {
        let ca = ContentAddress { method: CaMethod::Nar, hash: HashAlgo::Sha256.digest(b"x") };
        let path = d.outputs["out"].path().cloned();
        d.outputs.insert("out".into(), DerivationOutput::Fixed { path, ca });
    };
    /// Alice's path as input and output at once.
    the_output_as_an_input: |d: &mut BasicDerivation| { d.input_srcs.insert(d.outputs["out"].path().unwrap().clone()); };
    /// A path that is known only after the build.
    an_output_without_a_path: |d: &mut BasicDerivation| drop(d.outputs.insert("out".into(), DerivationOutput::Deferred));
}

/// The same build under the name of another derivation: one run, and Alice sees only her own name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_name_for_the_derivation() {
    let stage = Stage::new().await;
    let [input, deep] = sources();
    upload(&stage.mallory, &[&deep, &input]).await.unwrap();
    let drv = victim();
    let other = drv.under_another_path();
    assert!(build(&stage.mallory, &other).await.done().status.is_success());
    stage.unharmed(&[&deep, &input], &drv).await;
    assert_eq!(stage.runs(), 1);
    let info = stage
        .alice
        .query_path_infos(vec![drv.out()])
        .await
        .unwrap()
        .remove(0);
    assert_eq!(info.deriver, Some(drv.path.clone()));
    let derivers = stage.alice.query_valid_derivers(drv.out()).await.unwrap();
    assert!(!derivers.contains(&other.path));
}

/// A derivation whose output has the hash part of Alice's and another name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_hash_part() {
    let stage = Stage::new().await;
    let drv = Drv::new("thing", &[], &[]);
    let digest = firn_nix::base32::decode::<20>(drv.out().hash_part().as_bytes()).unwrap();
    let mut other = Drv::new("thong", &["log:other\n"], &[]);
    let twin = StorePath::new(&digest, "thong").unwrap();
    other
        .drv
        .outputs
        .insert("out".into(), DerivationOutput::InputAddressed(twin.clone()));
    build(&stage.mallory, &other).await.done();
    let asked = async |client: &crate::support::Client| {
        let hash = drv.out().hash_part().to_owned();
        client.query_path_from_hash_part(hash).await.unwrap()
    };
    assert_eq!(asked(&stage.mallory).await, Some(twin));
    assert_eq!(asked(&stage.alice).await, None);
    stage.unharmed(&[], &drv).await;
    assert_eq!(asked(&stage.alice).await, Some(drv.out()));
}

/// Names that agree in as many bytes as a name may have: there are none longer, and the last byte counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_differ_at_their_end() {
    let stage = Stage::new().await;
    let long = |end: char| "n".repeat(206) + &end.to_string();
    let (hers, other) = (Drv::new(&long('a'), &[], &[]), Drv::new(&long('b'), &[], &[]));
    build(&stage.mallory, &other).await.done();
    stage.unharmed(&[], &hers).await;
    assert_eq!(stage.runs(), 2);
    assert!(StorePath::new(&[1; 20], &"n".repeat(212)).is_err());
}

/// Two outputs whose paths are exchanged: each name has the other's path.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outputs_exchanged() {
    let stage = Stage::new().await;
    let mut drv = Drv::new("thing", &[], &[]);
    let dev = DerivationOutput::InputAddressed(path("thing-dev"));
    drv.drv.outputs.insert("dev".into(), dev.clone());
    let mut other = drv.clone();
    let out = other
        .drv
        .outputs
        .insert("dev".into(), drv.drv.outputs["out"].clone());
    other.drv.outputs.insert("out".into(), out.unwrap());
    let status = build(&stage.mallory, &other).await.done().status;
    assert_eq!(status, BuildStatus::InputRejected);
    stage.unharmed(&[], &drv).await;
}

/// The output of a derivation of Alice's as that of another one, while hers runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lie_about_the_output_while_alice_builds_it() {
    let stage = Stage::new().await;
    let drv = Drv::new("thing", &["log:begun\n", "wait"], &[]);
    let mut hers = crate::support::Asked::plain(&stage.alice, &drv);
    hers.saw("begun").await;
    let mut other = drv.clone();
    other.drv.args.clear();
    assert!(build(&stage.mallory, &other).await.done().status.is_success());
    stage.world.builder.release(1);
    assert_eq!(hers.answer().await.done().status, BuildStatus::Built);
    assert_ne!(
        bytes(&stage.alice, &drv.out()).await.unwrap(),
        bytes(&stage.mallory, &drv.out()).await.unwrap()
    );
    assert_eq!(drv.drv.check(&drv.path), Ok(DerivationKind::InputAddressed));
}
