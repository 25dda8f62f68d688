//! The proof that both sides have the same key, as Python's `multiprocessing.connection` has it.
//!
//! ```text
//!  listener                                          client
//!     │ ── #CHALLENGE# {sha256} 40 random bytes ───▶ │
//!     │ ◀───────── {sha256} HMAC of the challenge ── │
//!     │ ── #WELCOME#, or #FAILURE# ────────────────▶ │
//!     │               the same the other way round   │
//! ```
//!
//! Python 3.11 and older write no digest's name, and mean MD5. They take the whole challenge for random bytes, and prove the key by
//! an HMAC with MD5. Their own challenges are 20 random bytes. Such a proof is accepted, and given, only if it was allowed:
//! somebody in the middle could otherwise ask for it.
//!
//! This is a state machine: each message of the peer has at most two in answer, and no message is longer than [`MESSAGE_MAX`].

use hmac::{Hmac, Mac as _};
use md5::Md5;
use sha2::Sha256;

const CHALLENGE: &[u8] = b"#CHALLENGE#";
const WELCOME: &[u8] = b"#WELCOME#";
const FAILURE: &[u8] = b"#FAILURE#";
const SHA256: &[u8] = b"{sha256}";
const MD5: &[u8] = b"{md5}";

/// Random bytes of a challenge.
pub(super) const RANDOM: usize = 40;
/// Random bytes of a challenge of Python 3.11 and older.
const LEGACY: usize = 20;
/// Bytes of an HMAC with MD5.
const LEGACY_PROOF: usize = 16;

/// The longest message of the protocol, as Python has it.
pub(super) const MESSAGE_MAX: usize = 256;

/// The side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The side that accepts, and demands the first proof.
    Listener,
    /// The side that connects, and gives the first proof.
    Client,
}

/// The message that the peer has to send next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The proof of the peer, for our challenge.
    Proof,
    /// A challenge of the peer.
    Challenge,
    /// The peer's word on our proof.
    Verdict,
    Done,
}

/// A key, and what of the past is allowed.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) bytes: Vec<u8>,
    pub(super) allows_md5: bool,
}

/// A handshake under way.
pub(super) struct Handshake {
    side: Side,
    step: Step,
    /// Our challenge: the digest's name and random bytes.
    challenge: Vec<u8>,
}

/// Answers to a message, and whether the handshake is done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answers {
    pub(super) messages: Vec<Vec<u8>>,
    /// Why the peer is refused; the messages are sent all the same.
    pub(super) refused: Option<&'static str>,
}

impl Handshake {
    /// Begins, and returns what is to be sent first.
    pub(super) fn begin(side: Side, random: [u8; RANDOM]) -> (Self, Option<Vec<u8>>) {
        let challenge = [SHA256, &random].concat();
        let step = match side {
            Side::Listener => Step::Proof,
            Side::Client => Step::Challenge,
        };
        let handshake = Self { side, step, challenge };
        let first = (side == Side::Listener).then(|| handshake.own_challenge());
        (handshake, first)
    }

    fn own_challenge(&self) -> Vec<u8> {
        [CHALLENGE, &self.challenge].concat()
    }

    pub(super) fn is_done(&self) -> bool {
        self.step == Step::Done
    }

    /// Answers a message of the peer.
    pub(super) fn take(&mut self, key: &Key, message: &[u8]) -> Answers {
        let mut answers = Answers::default();
        match self.step {
            Step::Proof if is_proof(key, &self.challenge, message) => {
                answers.messages.push(WELCOME.to_vec());
                self.step = match self.side {
                    Side::Listener => Step::Challenge,
                    Side::Client => Step::Done,
                };
            }
            Step::Proof => {
                answers.messages.push(FAILURE.to_vec());
                answers.refused = Some("the peer has another key");
            }
            Step::Challenge => match message.strip_prefix(CHALLENGE).map(|challenge| proof(key, challenge)) {
                Some(Ok(proof)) => {
                    answers.messages.push(proof);
                    self.step = Step::Verdict;
                }
                Some(Err(why)) => answers.refused = Some(why),
                None => answers.refused = Some("the peer doesn't ask for a key"),
            },
            Step::Verdict if message == WELCOME => match self.side {
                Side::Listener => self.step = Step::Done,
                Side::Client => {
                    answers.messages.push(self.own_challenge());
                    self.step = Step::Proof;
                }
            },
            Step::Verdict => answers.refused = Some("the peer has refused the key"),
            Step::Done => answers.refused = Some("the peer has sent too much"),
        }
        answers
    }
}

/// The answer to a peer's challenge.
fn proof(key: &Key, challenge: &[u8]) -> Result<Vec<u8>, &'static str> {
    const TOO_OLD: &str = "the peer knows only MD5, as Python up to 3.11 does; hint: allow it by allow_md5, or use a newer Python there";
    if challenge.starts_with(SHA256) && challenge.len() >= SHA256.len() + LEGACY {
        let mac = sha256(key, challenge).finalize().into_bytes();
        return Ok([SHA256, &mac].concat());
    }
    let is_legacy = challenge.len() == LEGACY;
    let is_named = challenge.starts_with(MD5) && challenge.len() >= MD5.len() + LEGACY;
    if !is_legacy && !is_named {
        return Err("the peer asks for an unknown proof of the key");
    }
    if !key.allows_md5 {
        return Err(TOO_OLD);
    }
    let mac = md5(key, challenge).finalize().into_bytes();
    Ok(if is_named { [MD5, &mac].concat() } else { mac.to_vec() })
}

/// Whether a peer has answered our challenge with the key. The comparison takes the same time wherever the two differ.
fn is_proof(key: &Key, challenge: &[u8], answer: &[u8]) -> bool {
    if let Some(mac) = answer.strip_prefix(SHA256) {
        return sha256(key, challenge).verify_slice(mac).is_ok();
    }
    let mac = answer.strip_prefix(MD5).unwrap_or(answer);
    key.allows_md5 && mac.len() == LEGACY_PROOF && md5(key, challenge).verify_slice(mac).is_ok()
}

fn sha256(key: &Key, message: &[u8]) -> Hmac<Sha256> {
    // Any length of a key is allowed.
    let mac = Hmac::<Sha256>::new_from_slice(&key.bytes).unwrap_or_else(|_| Hmac::new(&Default::default()));
    mac.chain_update(message)
}

fn md5(key: &Key, message: &[u8]) -> Hmac<Md5> {
    let mac = Hmac::<Md5>::new_from_slice(&key.bytes).unwrap_or_else(|_| Hmac::new(&Default::default()));
    mac.chain_update(message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]
mod tests {
    use super::*;

    fn key(bytes: &[u8], allows_md5: bool) -> Key {
        Key { bytes: bytes.to_vec(), allows_md5 }
    }

    /// Lets two sides talk; each is done, or refuses the other.
    fn talk(listener: &Key, client: &Key) -> [Result<(), &'static str>; 2] {
        let (mut one, first) = Handshake::begin(Side::Listener, [1; RANDOM]);
        let (mut other, none) = Handshake::begin(Side::Client, [2; RANDOM]);
        assert!(none.is_none());
        let mut to_client: Vec<_> = first.into_iter().collect();
        let mut refused = [None, None];
        while !to_client.is_empty() {
            let mut to_listener = Vec::new();
            for message in std::mem::take(&mut to_client) {
                let answers = other.take(client, &message);
                refused[1] = refused[1].or(answers.refused);
                to_listener.extend(answers.messages);
            }
            for message in to_listener {
                let answers = one.take(listener, &message);
                refused[0] = refused[0].or(answers.refused);
                to_client.extend(answers.messages);
            }
        }
        let end = |handshake: &Handshake, refused: Option<_>| match refused {
            Some(why) => Err(why),
            None if handshake.is_done() => Ok(()),
            None => Err("unfinished"),
        };
        [end(&one, refused[0]), end(&other, refused[1])]
    }

    #[test]
    fn sides_with_the_same_key_know_each_other() {
        for len in [1, 20, 64, 65, 1000] {
            assert_eq!(talk(&key(&vec![5; len], false), &key(&vec![5; len], true)), [Ok(()), Ok(())]);
        }
    }

    #[test]
    fn another_key_is_refused_on_both_sides() {
        let wrong = [&b"secre"[..], b"secret ", b"Secret", b"x"];
        for wrong in wrong {
            let [listener, client] = talk(&key(b"secret", false), &key(wrong, false));
            assert_eq!(listener, Err("the peer has another key"));
            assert_eq!(client, Err("the peer has refused the key"));
        }
    }

    /// As `hmac.new(b'secret', message, digest).digest()` of Python.
    #[test]
    fn proofs_are_those_of_python() {
        let challenge = [SHA256, &[b'r'; 40]].concat();
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let long = proof(&key(b"secret", false), &challenge).unwrap();
        assert_eq!(long.strip_prefix(SHA256).map(hex).unwrap(), SHA256_OF_PYTHON);
        let short = proof(&key(b"secret", true), &[b'r'; 20]).unwrap();
        assert_eq!(hex(&short), MD5_OF_PYTHON);
        assert!(is_proof(&key(b"secret", false), &challenge, &long));
    }

    #[test]
    fn md5_only_if_allowed() {
        let challenge = [SHA256, &[b'r'; 40]].concat();
        let old = md5(&key(b"secret", true), &challenge).finalize().into_bytes();
        for answer in [old.to_vec(), [MD5, &old].concat()] {
            assert!(is_proof(&key(b"secret", true), &challenge, &answer));
            assert!(!is_proof(&key(b"secret", false), &challenge, &answer));
            assert!(!is_proof(&key(b"other", true), &challenge, &answer));
        }
        for asked in [vec![b'r'; 20], [MD5, &[b'r'; 40]].concat()] {
            assert!(proof(&key(b"secret", true), &asked).is_ok());
            assert!(proof(&key(b"secret", false), &asked).unwrap_err().contains("allow_md5"));
        }
        for nonsense in [
            &b""[..],
            b"x",
            &[b'r'; 19],
            &[b'r'; 21],
            b"{sha512}rrrrrrrrrrrrrrrrrrrrrrrrrrrrr",
            b"{sha256}short",
        ] {
            assert!(proof(&key(b"secret", true), nonsense).is_err(), "{nonsense:?}");
        }
    }

    /// A peer that only sends back what it got, or pieces of it, proves nothing.
    #[test]
    fn an_echo_is_no_proof() {
        let own = key(b"secret", true);
        let (mut handshake, first) = Handshake::begin(Side::Listener, [1; RANDOM]);
        let answers = handshake.take(&own, &first.unwrap());
        assert_eq!(answers.messages, [FAILURE.to_vec()]);
        assert!(answers.refused.is_some());
        for message in [&b""[..], WELCOME, FAILURE, CHALLENGE, b"{sha256}", b"{md5}", &[0; 16], &[0; 256]] {
            let (mut handshake, _) = Handshake::begin(Side::Listener, [1; RANDOM]);
            assert!(handshake.take(&own, message).refused.is_some(), "{message:?}");
        }
    }

    /// Feeds a handshake arbitrary messages. Fails if a peer without the key gets through.
    fn fuzz(data: &[u8]) {
        let (Some((choice, rest)), key) = (data.split_first(), [7; 32]) else { return };
        let side = if choice & 1 == 0 { Side::Listener } else { Side::Client };
        let key = Key { bytes: key.to_vec(), allows_md5: choice & 2 != 0 };
        let (mut handshake, _) = Handshake::begin(side, [3; RANDOM]);
        for message in rest.split(|byte| *byte == b'\n') {
            let answers = handshake.take(&key, message);
            assert!(!handshake.is_done(), "the peer has no key");
            assert!(answers.messages.iter().all(|message| message.len() <= MESSAGE_MAX));
            if answers.refused.is_some() {
                return;
            }
        }
    }

    #[test]
    fn any_messages_are_borne() {
        let mut seed = 1_u32;
        for round in 0..20_000_u32 {
            let mut data = vec![round as u8];
            data.extend([CHALLENGE, SHA256, WELCOME, MD5][round as usize % 4]);
            for _ in 0..round % 90 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                data.push((seed >> 24) as u8);
            }
            fuzz(&data);
        }
    }

    const SHA256_OF_PYTHON: &str = "cace73f329b510d7830edf7748c49be43aa84cd40d46ba9e89bc95efd4aba4af";
    const MD5_OF_PYTHON: &str = "caa9721200a56bd393889606df3cc3f6";
}
