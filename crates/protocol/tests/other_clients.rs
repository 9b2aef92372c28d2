//! Builds for clients that cannot be had here, word by word as their sources have it: Nix 2.3, Lix, and Nix 2.35 with its features.
//!
//! The bytes are put together and taken apart by this file alone, so that it shares no mistake with the codecs.

#![expect(clippy::unwrap_used, reason = "a test shows by panicking what is wrong")]

use firn_protocol::worker;
use support::memory::{MemoryStore, file_nar};
use support::{options, path};

mod support;

const LAST: u64 = 0x616c_7473;
const NEXT: u64 = 0x6f6c_6d67;
const READ: u64 = 0x6461_7461;
const START: u64 = 0x5354_5254;
const STOP: u64 = 0x5354_4f50;
const RESULT: u64 = 0x5253_4c54;

struct Client {
    name: &'static str,
    minor: u64,
    features: &'static [&'static str],
}

const CLIENTS: [Client; 4] = [
    Client {
        name: "Nix 2.3",
        minor: 21,
        features: &[],
    },
    Client {
        name: "Lix",
        minor: 35,
        features: &[],
    },
    Client {
        name: "Nix 2.34",
        minor: 38,
        features: &[],
    },
    Client {
        name: "Nix 2.35",
        minor: 38,
        features: &[
            "realisation-with-path-not-hash",
            "delete-dead-specific-referrers",
            "disable-set-options",
        ],
    },
];

#[derive(Default)]
struct Words(Vec<u8>);

impl Words {
    fn n(&mut self, number: u64) -> &mut Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    fn s(&mut self, text: impl AsRef<[u8]>) -> &mut Self {
        let text = text.as_ref();
        self.n(text.len() as u64).0.extend(text);
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        self
    }

    fn list(&mut self, texts: &[&str]) -> &mut Self {
        self.n(texts.len() as u64);
        for text in texts {
            self.s(text);
        }
        self
    }
}

struct Answer<'a>(&'a [u8]);

impl Answer<'_> {
    fn n(&mut self) -> u64 {
        let (number, rest) = self.0.split_first_chunk().unwrap();
        self.0 = rest;
        u64::from_le_bytes(*number)
    }

    fn raw(&mut self, len: usize) -> Vec<u8> {
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes.to_vec()
    }

    fn s(&mut self) -> String {
        let len = usize::try_from(self.n()).unwrap();
        let mut bytes = self.raw(len.next_multiple_of(8));
        bytes.truncate(len);
        String::from_utf8(bytes).unwrap()
    }

    fn list(&mut self) -> Vec<String> {
        (0..self.n()).map(|_| self.s()).collect()
    }

    fn fields(&mut self) {
        for _ in 0..self.n() {
            match self.n() {
                0 => drop(self.n()),
                _ => drop(self.s()),
            }
        }
    }

    /// The messages up to the last; how often data was asked for.
    fn last(&mut self) -> usize {
        let mut asked = 0;
        loop {
            match self.n() {
                LAST => return asked,
                NEXT => drop(self.s()),
                READ => {
                    self.n();
                    asked += 1;
                }
                START => {
                    for _ in 0..3 {
                        self.n();
                    }
                    self.s();
                    self.fields();
                    self.n();
                }
                STOP => drop(self.n()),
                RESULT => {
                    self.n();
                    self.n();
                    self.fields();
                }
                other => panic!("{other:#x}"),
            }
        }
    }
}

#[tokio::test]
async fn a_build_hook_is_served() {
    let nar = file_nar(b"input");
    let hash = firn_nix::Hash::sha256(&nar);
    let hash: String = hash.bytes().iter().map(|b| format!("{b:02x}")).collect();
    let (input, drv, out) = (
        path("input").to_string(),
        path("x.drv").to_string(),
        path("x").to_string(),
    );
    for Client {
        name,
        minor,
        features,
    } in CLIENTS
    {
        let mut said = Words::default();
        said.n(0x6e69_7863).n(1 << 8 | minor);
        if minor >= 38 {
            said.list(features);
        }
        said.n(0).n(0);

        // QueryValidPaths
        said.n(31).list(&[&input]);
        if minor >= 27 {
            said.n(0);
        }

        let info = |words: &mut Words| {
            words.s(&input).s("").s(&hash).list(&[]).n(0).n(nar.len() as u64);
            words.n(0).list(&[]).s("");
        };
        if minor >= 32 {
            // AddMultipleToStore, without checks of signatures: frames without padding.
            said.n(44).n(0).n(1);
            let mut body = Words::default();
            body.n(1);
            info(&mut body);
            body.0.extend(&nar);
            said.n(body.0.len() as u64).0.extend(&body.0);
            said.n(0);
        } else {
            // AddToStoreNar, and what is said when data is asked for.
            said.n(39);
            info(&mut said);
            said.n(0).n(1).s(&nar);
        }

        // BuildDerivation
        said.n(36).s(&drv);
        said.n(1).s("out").s(&out).s("").s("");
        said.list(&[&input])
            .s("x86_64-linux")
            .s("/bin/sh")
            .list(&["-c", "true"]);
        said.n(2).s("name").s("x").s("out").s(&out);
        said.n(0);

        // QueryPathInfo, NarFromPath
        said.n(26).s(&out).n(38).s(&out);

        let mut answered = Vec::new();
        let (store, options) = (MemoryStore::default(), options());
        let served = worker::serve(&store, &said.0[..], &mut answered, &options);
        served.await.unwrap_or_else(|e| panic!("{name}: {e}"));

        let mut answer = Answer(&answered);
        assert_eq!((answer.n(), answer.n()), (0x6478_696f, 1 << 8 | 38));
        if minor >= 38 {
            assert!(answer.list().iter().all(|offered| offered != "submit-output"));
        }
        if minor >= 33 {
            assert_eq!(answer.s(), "test");
        }
        if minor >= 35 {
            assert_eq!(answer.n(), 1);
        }
        answer.last();
        answer.last();
        assert!(answer.list().is_empty(), "{name}");
        assert_eq!(answer.last(), usize::from(minor < 23), "{name}");
        answer.last();
        let (status, why) = (answer.n(), answer.s());
        assert_eq!((status, why.as_str()), (0, ""), "{name}");
        if minor >= 29 {
            let times = [(); 4].map(|()| answer.n());
            assert_eq!((times[0], times[1]), (1, 0), "{name}");
        }
        if minor >= 37 {
            for _ in 0..2 {
                if answer.n() == 1 {
                    answer.n();
                }
            }
        }
        if minor >= 28 {
            // No realisations of input-addressed outputs, in either form.
            assert_eq!(answer.n(), 0, "{name}");
        }
        answer.last();
        assert_eq!((answer.n(), answer.s()), (1, drv.clone()), "{name}");
        let (nar_hash, references) = (answer.s(), answer.list());
        assert_eq!((nar_hash.len(), references.len()), (64, 0));
        let (_time, size) = (answer.n(), answer.n());
        answer.n();
        assert!(answer.list().is_empty() && answer.s().is_empty());
        answer.last();
        let sent = answer.raw(usize::try_from(size).unwrap());
        assert_eq!(sent, file_nar(b"stub output out\n"), "{name}");
        assert!(answer.0.is_empty(), "{name}");
    }
}
