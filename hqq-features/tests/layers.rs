//! Layers alone and stacked: round trips, limits, forged frames, and layers that the library knows nothing of.

use hqq_features::{Decoded, Encoded, Layer, LayerError, LayerStack};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const CONTEXT: &[u8] = b"opcode 1";

/// A layer of an application: hides the length of a message by zeros after it, up to a multiple of 64 bytes with the
/// length.
#[derive(Debug)]
struct Padding;

impl Padding {
    const BLOCK: usize = 64;
}

impl Layer for Padding {
    fn name(&self) -> &'static str {
        "padding"
    }

    fn overhead(&self) -> usize {
        Self::BLOCK + 7
    }

    fn encode(&self, message: &[u8], _: &[u8], into: &mut [u8]) -> Result<Encoded, LayerError> {
        let len = (8 + message.len()).next_multiple_of(Self::BLOCK);
        let Some(frame) = into.get_mut(..len) else {
            return Err(LayerError::new(self.name(), "no room"));
        };
        frame.fill(0);
        frame[..8].copy_from_slice(&(message.len() as u64).to_le_bytes());
        frame[8..8 + message.len()].copy_from_slice(message);
        Ok(Encoded { len, ticket: None })
    }

    fn decode(&self, frame: &[u8], _: &[u8], limit: u64) -> Result<Decoded, LayerError> {
        let refused = |reason| LayerError::new(self.name(), reason);
        let (len, rest) = frame.split_first_chunk().ok_or_else(|| refused("no length"))?;
        let len = u64::from_le_bytes(*len);
        if len > limit {
            return Err(refused("too long"));
        }
        match usize::try_from(len) {
            Ok(len) if len <= rest.len() => Ok(Decoded::within(8..8 + len)),
            _ => Err(refused("more than there is")),
        }
    }
}

/// A layer that numbers frames and refuses none. Frames are stale when another was encoded after them.
#[derive(Debug, Default)]
struct Numbers {
    next: AtomicU64,
}

impl Layer for Numbers {
    fn name(&self) -> &'static str {
        "numbers"
    }

    fn overhead(&self) -> usize {
        8
    }

    fn encode(&self, message: &[u8], _: &[u8], into: &mut [u8]) -> Result<Encoded, LayerError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (ahead, rest) = into.split_at_mut(8);
        ahead.copy_from_slice(&number.to_le_bytes());
        rest[..message.len()].copy_from_slice(message);
        Ok(Encoded { len: 8 + message.len(), ticket: Some(number) })
    }

    fn decode(&self, frame: &[u8], _: &[u8], _: u64) -> Result<Decoded, LayerError> {
        Ok(Decoded::within(8..frame.len()))
    }

    fn is_single_use(&self) -> bool {
        true
    }

    fn is_stale(&self, ticket: u64) -> bool {
        self.next.load(Ordering::Relaxed) != ticket + 1
    }

    fn of_connection(&self, id: u64) -> Option<Arc<dyn Layer>> {
        Some(Arc::new(Self { next: AtomicU64::new(1000 * id) }))
    }
}

/// Messages of many lengths: one that repeats itself, and one that does not.
fn messages() -> impl Iterator<Item = Vec<u8>> {
    [0, 1, 7, 24, 63, 64, 65, 300, 5000].into_iter().flat_map(|len: usize| {
        let mut random = fastrand::Rng::with_seed(len as u64);
        let noise = (0..len).map(move |_| random.u8(..));
        [b"a line of a log. ".iter().copied().cycle().take(len).collect(), noise.collect()]
    })
}

/// Sends each message from `sender` to `receiver`, in memory of every allowed size.
fn check(sender: &LayerStack, receiver: &LayerStack) {
    for message in messages() {
        let limit = message.len() as u64;
        let frame = sender.encode_to_vec(&message, CONTEXT).unwrap();
        assert!(frame.len() <= message.len() + sender.overhead());
        let decoded = receiver.decode(&frame, CONTEXT, limit).unwrap();
        assert_eq!(decoded.bytes(&frame), message);
        assert_eq!(decoded.into_vec(&frame), message);

        let mut encoder = sender.prepare(&message, CONTEXT).unwrap();
        assert!(encoder.min_room() <= encoder.room());
        for room in [encoder.min_room(), encoder.room(), encoder.room() + 100] {
            let mut loan = vec![0xA5; room];
            let len = encoder.write(&mut loan).unwrap();
            let sent = encoder.send_in_order(|| loan[..len].to_vec()).unwrap();
            let decoded = receiver.decode(&sent, CONTEXT, limit).unwrap();
            assert_eq!(decoded.bytes(&sent), message);
        }
        if let Some(short) = encoder.min_room().checked_sub(1) {
            assert!(encoder.write(&mut vec![0; short]).is_err());
        }

        if let Some(limit) = limit.checked_sub(1) {
            let frame = sender.encode_to_vec(&message, CONTEXT).unwrap();
            if !sender.is_empty() && sender.layers()[0].name() != "numbers" {
                assert!(receiver.decode(&frame, CONTEXT, limit).is_err(), "{} bytes", message.len());
            }
        }
    }
    for size in [1, 100, 1000, 4096, 100_000] {
        let len = sender.max_message_len(size);
        assert!(len + sender.overhead() <= size || len == 1);
    }
}

#[test]
fn no_layers_change_nothing() {
    let stack = LayerStack::default();
    check(&stack, &stack);
    assert!(stack.is_empty());
    assert_eq!((stack.overhead(), stack.max_message_len(100), stack.max_message_len(0)), (0, 100, 1));
    assert_eq!(stack.encode_to_vec(b"abc", CONTEXT).unwrap(), b"abc");
    assert_eq!(stack.decode(b"abc", CONTEXT, 3).unwrap().range(), Some(0..3));
    let error = stack.prepare(b"abc", CONTEXT).unwrap().write(&mut [0; 2]).unwrap_err().to_string();
    assert_eq!(error, "link: 2 bytes of room for a frame of up to 3: provide that many");
}

#[test]
fn layers_of_an_application_stack() {
    let stack = || LayerStack::new(vec![Arc::new(Padding), Arc::new(Padding)]);
    check(&stack(), &stack());
    let stack = stack();
    assert_eq!(stack.overhead(), 142);
    let frame = stack.encode_to_vec(b"abc", CONTEXT).unwrap();
    assert_eq!(frame.len(), 128);
    assert_eq!(stack.decode(&frame, CONTEXT, 3).unwrap().range(), Some(16..19), "nothing is copied");
    let numbers: Arc<dyn Layer> = Arc::new(Numbers::default());
    for layers in
        [vec![numbers.clone()], vec![Arc::new(Padding), numbers.clone()], vec![numbers, Arc::new(Padding)]]
    {
        let stack = LayerStack::new(layers);
        check(&stack, &stack);
    }
}

#[test]
fn errors_name_their_layer() {
    let stack = LayerStack::new(vec![Arc::new(Padding)]);
    let mut frame = stack.encode_to_vec(b"abc", CONTEXT).unwrap();
    let error = stack.decode(&frame, CONTEXT, 2).unwrap_err();
    assert_eq!((error.layer(), error.to_string().as_str()), ("padding", "padding: too long"));
    frame[0] = 200;
    let error = stack.decode(&frame, CONTEXT, 1000).unwrap_err();
    assert_eq!(error.reason().to_string(), "more than there is");
    assert_eq!(stack.decode(&frame[..7], CONTEXT, 1000).unwrap_err().to_string(), "padding: no length");
}

#[test]
fn a_stale_frame_is_not_sent() {
    for padded in [false, true] {
        let mut layers: Vec<Arc<dyn Layer>> = vec![Arc::new(Numbers::default())];
        if padded {
            layers.push(Arc::new(Padding));
        }
        let stack = LayerStack::new(layers);
        let mut first = stack.prepare(b"first", CONTEXT).unwrap();
        let mut loan = vec![0; first.room()];
        first.write(&mut loan).unwrap();
        let second = stack.encode_to_vec(b"second", CONTEXT).unwrap();
        assert_eq!(stack.decode(&second, CONTEXT, 100).unwrap().bytes(&second), b"second");
        assert_eq!(first.send_in_order(|| unreachable!("it is stale")), None::<()>);
        let len = first.write(&mut loan).unwrap();
        assert_eq!(first.send_in_order(|| loan[..len].to_vec()), Some(loan[..len].to_vec()));
        assert_eq!(stack.decode(&loan[..len], CONTEXT, 100).unwrap().bytes(&loan), b"first");
    }
}

#[test]
fn every_ticket_of_a_frame_counts() {
    let (inner, outer) = (Arc::new(Numbers::default()), Arc::new(Numbers::default()));
    let stack = LayerStack::new(vec![inner.clone(), outer.clone()]);
    for other in [inner, outer] {
        let mut encoder = stack.prepare(b"message", CONTEXT).unwrap();
        let mut loan = vec![0; encoder.room()];
        encoder.write(&mut loan).unwrap();
        assert_eq!(encoder.send_in_order(|| 1), Some(1));
        let _ = other.encode(b"", CONTEXT, &mut [0; 8]).unwrap();
        assert_eq!(encoder.send_in_order(|| 1), None);
        encoder.write(&mut loan).unwrap();
        assert_eq!(encoder.send_in_order(|| 1), Some(1));
    }
}

#[test]
fn connections_have_layers_of_their_own_where_these_say_so() {
    let stack = LayerStack::new(vec![Arc::new(Padding), Arc::new(Numbers::default())]);
    let own = stack.of_connection(3);
    assert!(Arc::ptr_eq(&stack.layers()[0], &own.layers()[0]));
    assert_eq!(own.encode_to_vec(b"", CONTEXT).unwrap()[..8], 3000_u64.to_le_bytes());
    assert_eq!(stack.encode_to_vec(b"", CONTEXT).unwrap()[..8], 0_u64.to_le_bytes());
}

#[test]
fn a_stack_divides_into_what_can_be_kept_and_the_rest() {
    let names = |stack: &LayerStack| stack.layers().iter().map(|layer| layer.name()).collect::<Vec<_>>();
    let padding = || Arc::new(Padding) as Arc<dyn Layer>;
    let numbers = || Arc::new(Numbers::default()) as Arc<dyn Layer>;
    let (kept, sent) = LayerStack::new(vec![padding(), numbers(), padding()]).split();
    assert_eq!((names(&kept), names(&sent)), (vec!["padding"], vec!["numbers", "padding"]));
    assert_eq!((kept.overhead(), sent.overhead()), (71, 79));
    let (kept, sent) = LayerStack::new(vec![padding()]).split();
    assert_eq!((names(&kept), names(&sent)), (vec!["padding"], vec![]));
    let (kept, sent) = LayerStack::default().split();
    assert!(kept.is_empty() && sent.is_empty());
}

#[cfg(feature = "compress")]
mod compression {
    use super::*;
    use hqq_features::compress::{Codec, Codecs, CompressError, CompressionLayer, HEADER, Settings};

    pub fn layer(codec: Codec) -> Arc<dyn Layer> {
        Arc::new(CompressionLayer::new(&[codec], Settings::default(), Codecs::ALL))
    }

    #[test]
    fn messages_come_back() {
        for codec in Codec::ALL {
            let stack = LayerStack::new(vec![layer(codec)]);
            check(&stack, &stack);
            assert_eq!(stack.layers()[0].name(), "compression");
        }
    }

    #[test]
    fn raw_messages_are_not_copied() {
        let stack = LayerStack::new(vec![layer(Codec::Lz4)]);
        let frame = stack.encode_to_vec(b"short", CONTEXT).unwrap();
        assert_eq!(stack.decode(&frame, CONTEXT, 100).unwrap().range(), Some(HEADER..HEADER + 5));
        let frame = stack.encode_to_vec(&[0; 1000], CONTEXT).unwrap();
        assert!(frame.len() < 100);
        assert_eq!(stack.decode(&frame, CONTEXT, 1000).unwrap().range(), None);
    }

    #[test]
    fn forged_frames_are_refused() {
        let stack = LayerStack::new(vec![layer(Codec::Lz4)]);
        let decode =
            |frame: &[u8]| stack.decode(frame, CONTEXT, 10_000).map(|decoded| decoded.into_vec(frame));
        let good = stack.encode_to_vec(&[7; 1000], CONTEXT).unwrap();
        assert_eq!(decode(&good).unwrap(), [7; 1000]);
        for (at, value) in [(0, 9), (0, 0), (0, 2), (1, 0), (3, 1), (7, 1)] {
            let mut forged = good.clone();
            forged[at] = value;
            let error = decode(&forged).unwrap_err();
            assert_eq!(error.layer(), "compression");
            assert!(error.reason().downcast_ref::<CompressError>().is_some());
        }
        assert!(decode(&good[..good.len() - 1]).is_err());
        assert!(decode(&[0; HEADER - 1]).is_err());
        assert_eq!(decode(&good).unwrap(), [7; 1000], "a refusal leaves nothing behind");
    }

    #[test]
    fn only_agreed_codecs_are_decoded() {
        let zstd = LayerStack::new(vec![layer(Codec::Zstd)]);
        let frame = zstd.encode_to_vec(&[0; 1000], CONTEXT).unwrap();
        let agreed = CompressionLayer::new(&Codec::ALL, Settings::default(), Codecs::LZ4);
        assert_eq!(agreed.codec(), Codec::Raw, "the first of the preferred ones that may be sent");
        let error = LayerStack::new(vec![Arc::new(agreed)]).decode(&frame, CONTEXT, 1000).unwrap_err();
        let reason = error.reason().downcast_ref();
        assert_eq!(reason, Some(&CompressError::NotAgreed { codec: Codec::Zstd }));
    }

    #[test]
    fn a_message_that_fits_is_compressed_in_its_place() {
        let stack = LayerStack::new(vec![layer(Codec::Lz4)]);
        let len = stack.max_message_len(4096);
        assert!(stack.layers()[0].room(len) <= 4096 && len > 3600);
    }
}

#[cfg(feature = "encrypt")]
mod encryption {
    use super::*;
    use hqq_features::encrypt::{
        Cipher, EncryptError, EncryptionLayer, HEADER, Handshake, Key, Session, SessionSettings,
    };

    fn entropy(into: &mut [u8]) -> Result<(), EncryptError> {
        getrandom::fill(into).map_err(|_| EncryptError::NoEntropy)
    }

    pub fn sessions(cipher: Cipher) -> [Session; 2] {
        let key = Key::shared([7; 32]);
        let [mut one, mut two] = [true, false].map(|initiator| {
            Handshake::new(&key, initiator, cipher, SessionSettings::default(), b"agreed", entropy).unwrap()
        });
        two.read(&one.write().unwrap()).unwrap();
        one.read(&two.write().unwrap()).unwrap();
        [one, two].map(|end| end.finish().unwrap())
    }

    pub fn layers(cipher: Cipher, window: u32) -> [Arc<dyn Layer>; 2] {
        sessions(cipher).map(|session| Arc::new(EncryptionLayer::new(session, window)) as Arc<dyn Layer>)
    }

    fn stacks(cipher: Cipher, window: u32) -> [LayerStack; 2] {
        layers(cipher, window).map(|layer| LayerStack::new(vec![layer]))
    }

    fn reason(error: &LayerError) -> Option<EncryptError> {
        assert_eq!(error.layer(), "encryption");
        error.reason().downcast_ref().copied()
    }

    #[test]
    fn messages_come_back_at_the_other_end() {
        for cipher in Cipher::ALL {
            let [ours, theirs] = stacks(cipher, 2048);
            check(&ours, &theirs);
            check(&theirs, &ours);
            let (ours, theirs) = (ours.of_connection(5), theirs.of_connection(5));
            for message in messages() {
                let frame = ours.encode_to_vec(&message, CONTEXT).unwrap();
                assert_eq!(frame.len(), HEADER + message.len());
                let decoded = theirs.decode(&frame, CONTEXT, 1 << 20).unwrap();
                assert_eq!(decoded.into_vec(&frame), message);
            }
        }
    }

    #[test]
    fn forged_frames_are_refused() {
        let [ours, theirs] = stacks(Cipher::ChaCha20Poly1305, 2048);
        let good = ours.encode_to_vec(b"a secret", CONTEXT).unwrap();
        assert!(!good.windows(6).any(|bytes| bytes == b"secret"));
        let refused = |frame: &[u8], context: &[u8], limit| {
            reason(&theirs.decode(frame, context, limit).unwrap_err()).unwrap()
        };
        for at in 8..good.len() {
            let mut forged = good.clone();
            forged[at] ^= 1;
            assert_eq!(refused(&forged, CONTEXT, 100), EncryptError::Forged { counter: 0 });
        }
        assert_eq!(refused(&good, b"opcode 2", 100), EncryptError::Forged { counter: 0 });
        assert_eq!(refused(&good, CONTEXT, 7), EncryptError::TooLong { have: 8, limit: 7 });
        assert_eq!(refused(&good[..23], CONTEXT, 100), EncryptError::TooShort { have: 23, need: 24 });
        let own = ours.decode(&good, CONTEXT, 100).unwrap_err();
        assert_eq!(reason(&own), Some(EncryptError::Forged { counter: 0 }), "it goes the other way");
        assert_eq!(theirs.decode(&good, CONTEXT, 8).unwrap().bytes(&good), b"a secret");
        assert_eq!(refused(&good, CONTEXT, 100), EncryptError::Replayed { counter: 0 });
        let elsewhere = theirs.of_connection(1).decode(&good, CONTEXT, 100).unwrap_err();
        assert_eq!(reason(&elsewhere), Some(EncryptError::Forged { counter: 0 }));
    }

    #[test]
    fn a_frame_is_stale_after_half_the_window() {
        let [ours, theirs] = stacks(Cipher::ChaCha20Poly1305, 8);
        let mut late = ours.prepare(b"late", CONTEXT).unwrap();
        let mut loan = vec![0; late.room()];
        late.write(&mut loan).unwrap();
        for later in 0..=4 {
            assert_eq!(late.send_in_order(|| later), Some(later));
            let _ = ours.encode_to_vec(b"", CONTEXT).unwrap();
        }
        assert_eq!(late.send_in_order(|| ()), None);
        let len = late.write(&mut loan).unwrap();
        assert_eq!(late.send_in_order(|| len), Some(len));
        assert_eq!(theirs.decode(&loan, CONTEXT, 100).unwrap().bytes(&loan), b"late");
        let in_order = ours.of_connection(1);
        let mut first = in_order.prepare(b"", CONTEXT).unwrap();
        first.write(&mut loan).unwrap();
        let _ = in_order.encode_to_vec(b"", CONTEXT).unwrap();
        assert_eq!(first.send_in_order(|| ()), None, "a connection sends in the order of its counters");
    }

    #[test]
    fn messages_go_with_any_layer_outside() {
        let [ours, theirs] = layers(Cipher::Aes256Gcm, 2048);
        let padded = |layer| LayerStack::new(vec![layer, Arc::new(Padding)]);
        let (ours, theirs) = (padded(ours), padded(theirs));
        check(&ours, &theirs);
        let lens = [0, 3, 32].map(|len| ours.encode_to_vec(&vec![0; len], CONTEXT).unwrap().len());
        assert_eq!(lens, [64, 64, 64]);
    }
}

#[cfg(all(feature = "compress", feature = "encrypt"))]
mod both {
    use super::*;
    use hqq_features::compress::{Codec, HEADER};
    use hqq_features::encrypt::Cipher;

    /// Pairs of stacks: compression inside encryption, and a third layer in every place.
    fn stacks(codec: Codec, cipher: Cipher) -> Vec<[LayerStack; 2]> {
        let pair = |place: Option<usize>| {
            super::encryption::layers(cipher, 1 << 16).map(|encryption| {
                let mut layers = vec![super::compression::layer(codec), encryption];
                if let Some(place) = place {
                    layers.insert(place, Arc::new(Padding));
                }
                LayerStack::new(layers)
            })
        };
        [None, Some(0), Some(1), Some(2)].map(pair).into()
    }

    #[test]
    fn messages_come_back() {
        for (codec, cipher) in Codec::ALL.into_iter().zip(Cipher::ALL.into_iter().cycle()) {
            for [ours, theirs] in stacks(codec, cipher) {
                check(&ours, &theirs);
                let [ours, theirs] = [ours, theirs].map(|stack| stack.of_connection(7));
                let frame = ours.encode_to_vec(&[1; 5000], CONTEXT).unwrap();
                assert!(frame.len() < 300 || codec == Codec::Raw);
                assert_eq!(theirs.decode(&frame, CONTEXT, 5000).unwrap().bytes(&frame), [1; 5000]);
            }
        }
    }

    #[test]
    fn only_ciphertext_enters_the_memory_to_send_from() {
        let message = b"neither this nor its compression is for others".repeat(3);
        for [ours, _] in stacks(Codec::Lz4, Cipher::ChaCha20Poly1305) {
            let mut encoder = ours.prepare(&message, CONTEXT).unwrap();
            let mut loan = vec![0xA5; encoder.room() + 1000];
            let len = encoder.write(&mut loan).unwrap();
            for word in message[..46].windows(5) {
                assert!(!loan.windows(5).any(|bytes| bytes == word));
            }
            assert!(loan[len.max(encoder.min_room())..].iter().all(|byte| *byte == 0xA5));
        }
    }

    #[test]
    fn room_is_for_what_compression_made() {
        let [ours, _] = stacks(Codec::Zstd, Cipher::Aes256Gcm).remove(0);
        let encoder = ours.prepare(&[0; 100_000], CONTEXT).unwrap();
        assert!(encoder.room() < 200 && encoder.room() == encoder.min_room());
        assert_eq!(ours.max_message_len(4096), 4096 - 24 - HEADER);
    }

    #[test]
    fn what_is_kept_can_be_sent_in_another_session() {
        let [first, _] = stacks(Codec::Lz4, Cipher::Aes256Gcm).remove(0);
        let (keeping, _) = first.split();
        let kept = keeping.encode_to_vec(&[5; 1000], CONTEXT).unwrap();
        for sequence in 1..=3_u64 {
            let [ours, theirs] = stacks(Codec::Lz4, Cipher::ChaCha20Poly1305).remove(0);
            let (_, sending) = ours.split();
            let frame = sending.encode_to_vec(&kept, &sequence.to_le_bytes()).unwrap();
            let decoded = theirs.decode(&frame, &sequence.to_le_bytes(), 1000).unwrap();
            assert_eq!(decoded.into_vec(&frame), [5; 1000]);
        }
    }
}
