//! What an end brings into a negotiation, as its owner says it.

use std::sync::Arc;

use super::reliability::Reliability;
use crate::agreement::{Agreement, Capabilities, Features, Terms, Version};
use crate::demux::ReliableConfig;
use crate::demux::negotiation::Offer;
use crate::link::pipeline::Limits;
use hqq_features::Layer;
#[cfg(feature = "compress")]
use hqq_features::compress::{Codec, Codecs, CompressionLayer, Settings};
#[cfg(feature = "encrypt")]
use hqq_features::encrypt::{Cipher, Ciphers, Key};

/// Each codec has its bit in the Terms.
#[cfg(feature = "compress")]
const _: () = assert!(Codecs::ALL.bits() <= u16::MAX as u64);

/// What this end would like to agree on, and what it cannot do without.
#[derive(Clone, Debug)]
pub struct AdvancedOptions {
    version: Version,
    features: Features,
    capabilities: Capabilities,
    pub(super) required: Features,
    window: u32,
    pub(super) needed: Capabilities,
    pub(super) reliable: Option<Reliability>,
    /// Codecs, the one that is liked best first.
    #[cfg(feature = "compress")]
    codecs: Vec<Codec>,
    #[cfg(feature = "compress")]
    compress: Settings,
    #[cfg(feature = "encrypt")]
    pub(super) key: Option<Arc<Key>>,
    #[cfg(feature = "encrypt")]
    ciphers: Ciphers,
}

impl Default for AdvancedOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl AdvancedOptions {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            version: Version::CURRENT,
            features: Features::empty(),
            capabilities: Capabilities::empty(),
            required: Features::empty(),
            window: 0,
            needed: Capabilities::empty(),
            reliable: None,
            #[cfg(feature = "compress")]
            codecs: Vec::new(),
            #[cfg(feature = "compress")]
            compress: Settings::default(),
            #[cfg(feature = "encrypt")]
            key: None,
            #[cfg(feature = "encrypt")]
            ciphers: Ciphers::ALL,
        }
    }

    /// Compression by one of these codecs, the one that is liked best first. Each end takes the first of its own list that
    /// the other has too, and the other reads what it makes.
    #[cfg(feature = "compress")]
    #[must_use]
    pub fn compression(mut self, codecs: &[Codec]) -> Self {
        self.features |= Features::COMPRESSION;
        self.codecs = codecs.to_vec();
        self
    }

    /// How hard is tried to make messages smaller.
    #[cfg(feature = "compress")]
    #[must_use]
    pub fn compression_settings(mut self, settings: Settings) -> Self {
        self.compress = settings;
        self
    }

    /// Encryption with this key, which the peer must have too. It is [required](Self::require) then: without it there is no
    /// link, so that nothing is ever sent in the clear by mistake.
    #[cfg(feature = "encrypt")]
    #[must_use]
    pub fn encryption(mut self, key: Key) -> Self {
        self.features |= Features::ENCRYPTION;
        self.key = Some(Arc::new(key));
        self.require(Features::ENCRYPTION)
    }

    /// Only these ciphers; all unless set. Of those that both ends have the Primary takes the fastest on its processor.
    #[cfg(feature = "encrypt")]
    #[must_use]
    pub fn ciphers(mut self, ciphers: Ciphers) -> Self {
        self.ciphers = ciphers;
        self
    }

    /// Flow control: on each connection at most `window` chunks, of a buffer each, wait unread, so that a slow reader of one
    /// connection never stops the others. Of both ends' windows the smaller one is agreed on; none is larger than
    /// [`Options::inbox`](crate::Options::inbox), and one of less than 2 is as good as none.
    ///
    /// Credit that finds the ring full goes out with this process's next call on the link, as other replies do: who reads and
    /// then makes no call for long may keep its peer waiting.
    #[must_use]
    pub fn flow_control(mut self, window: u32) -> Self {
        self.features |= Features::FLOW_CONTROL;
        self.window = window;
        self
    }

    /// Quality of service: connections have [classes, weights and rates](crate::Connection::set_traffic_class).
    /// Messages of the link itself have none, and go ahead of all that waits.
    #[must_use]
    pub fn qos(mut self) -> Self {
        self.features |= Features::QOS;
        self
    }

    /// Statistics: latencies, rates and the like of both directions, kept in the region for [`metrics`] and for observers. They
    /// cost a sample of about a thousand messages a second, a packet of its own each.
    ///
    /// [`metrics`]: crate::AdvancedLink::metrics
    #[must_use]
    pub fn statistics(mut self) -> Self {
        self.features |= Features::STATISTICS;
        self
    }

    /// These capabilities, beside others. Reliable delivery is asked for by [`reliable`](Self::reliable) alone. Both ends then spin as those say that they agree on, unless
    /// [`Options::spin`](crate::Options::spin) says otherwise; the link's geometry was made before, best by
    /// [`Options::for_capabilities`](crate::Options::for_capabilities) with the same.
    #[must_use]
    pub fn capability(mut self, capabilities: Capabilities) -> Self {
        self.capabilities |= capabilities;
        self
    }

    /// Messages of the link itself are kept until the peer's application acknowledges them, and sent again to whoever takes a
    /// dead peer's place; see [`AdvancedLink::acknowledge`](crate::AdvancedLink::acknowledge). Both ends must ask for it. It is
    /// required then, unless it is [optional](Reliability::optional): without it the negotiation fails with
    /// [`Error::NotAgreed`](crate::Error::NotAgreed).
    #[must_use]
    pub fn reliable(mut self, reliability: Reliability) -> Self {
        self.capabilities |= Capabilities::RELIABLE_DELIVERY;
        if !reliability.optional {
            self.needed |= Capabilities::RELIABLE_DELIVERY;
        }
        self.reliable = Some(reliability);
        self
    }

    /// As [`require`](Self::require), for what an end is made for.
    #[must_use]
    pub fn require_capability(mut self, capabilities: Capabilities) -> Self {
        self.needed |= capabilities;
        self
    }

    /// A link without these is of no use: then the negotiation fails with
    /// [`Error::NotAgreed`](crate::Error::NotAgreed), instead of falling back. Only what has been asked for can be had.
    #[must_use]
    pub fn require(mut self, features: Features) -> Self {
        self.required |= features;
        self
    }

    pub(super) fn offer(&self) -> Offer {
        Offer {
            version: self.version,
            features: self.features,
            capabilities: self.capabilities,
            required: self.required,
            needed: self.needed,
            least_kept: self.reliable.as_ref().map_or(0, |reliable| reliable.least),
            terms: self.terms(),
        }
    }

    fn terms(&self) -> Terms {
        let kept = self.reliable.as_ref().map_or(0, |reliable| reliable.messages);
        let terms = Terms { window: self.window, kept, ..Terms::NONE };
        #[cfg(feature = "compress")]
        let terms = Terms { codecs: Codecs::of(&self.codecs).bits() as u16, ..terms };
        #[cfg(feature = "encrypt")]
        let terms = match &self.key {
            None => terms,
            Some(_) => Terms {
                ciphers: self.ciphers.bits() as u8,
                cipher: self.ciphers.best().map_or(0, Cipher::number),
                ..terms
            },
        };
        terms
    }

    /// What this end brings along for messages that are kept.
    pub(super) fn reliable_config(&self) -> Option<ReliableConfig> {
        self.reliable.as_ref().map(Reliability::config)
    }

    /// What is kept at the most by this agreement; `None` if nothing is.
    pub(super) fn limits(&self, agreement: &Agreement) -> Option<Limits> {
        let reliable = self.reliable_by(agreement)?;
        Some(Limits { bytes: reliable.bytes, messages: agreement.terms.kept as usize })
    }

    /// How messages are kept by this agreement, if they are.
    pub(super) fn reliable_by(&self, agreement: &Agreement) -> Option<&Reliability> {
        let agreed = agreement.capabilities.contains(Capabilities::RELIABLE_DELIVERY);
        self.reliable.as_ref().filter(|_| agreed)
    }

    /// What the next peer must agree to, for it gets what was made for this one.
    pub(super) fn again(&self, agreement: &Agreement) -> Self {
        let mut again = self.clone();
        // What is kept was compressed, or it was not.
        again.features -= Features::COMPRESSION - agreement.features;
        again.required |= agreement.features & (Features::COMPRESSION | Features::ENCRYPTION);
        again.needed |= Capabilities::RELIABLE_DELIVERY;
        if let Some(reliable) = &mut again.reliable {
            (reliable.messages, reliable.least) = (agreement.terms.kept, agreement.terms.kept);
        }
        #[cfg(feature = "compress")]
        if agreement.features.contains(Features::COMPRESSION) {
            let agreed = Codecs::from_bits(agreement.terms.codecs.into());
            again.codecs = vec![agreed.preferred(&self.codecs)];
        }
        again
    }

    /// The layer that compresses, if that was agreed on.
    #[cfg(feature = "compress")]
    pub(super) fn compression_layer(&self, agreement: &Agreement) -> Option<Arc<dyn Layer>> {
        let agreed = Codecs::from_bits(agreement.terms.codecs.into());
        let has = agreement.features.contains(Features::COMPRESSION);
        has.then(|| Arc::new(CompressionLayer::new(&self.codecs, self.compress, agreed)) as Arc<dyn Layer>)
    }

    #[cfg(not(feature = "compress"))]
    pub(super) fn compression_layer(&self, _: &Agreement) -> Option<Arc<dyn Layer>> {
        None
    }
}
