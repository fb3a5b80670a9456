//! [`AdvancedLink`]: how two ends come to an agreement, and the link that has one.

use std::fmt;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use bytemuck::Pod;

#[cfg(feature = "encrypt")]
use super::keys::Keys;
use super::options::AdvancedOptions;
use crate::agreement::{Agreement, Fallback, Features};
#[cfg(feature = "encrypt")]
use crate::demux::negotiation::Keying;
use crate::demux::{ReliableConfig, WireError};
use crate::error::{Error, Result};
use crate::link::connection::{self, Connection};
use crate::link::core::{LinkCore, Peer};
use crate::link::deadline::Wait;
use crate::link::message::{Loan, Message, RecvIntoError, TypedLoan};
use crate::link::methods::{EACH, connecting_methods, link_methods, receiving_methods, sending_methods};
use crate::link::pipeline::{HeldLoan, Pipeline};
use crate::link::standard::{ShutdownHandle, StandardLink, shut};
use crate::observe::{Metrics, Stats};
use crate::shm::endpoint::SlotBytes;
use crate::shm::layout::Geometry;
use crate::shm::words::Role;
use hqq_features::{Layer, LayerStack};

/// One end of a link with what was agreed on it. Used as a [`StandardLink`] is, and where nothing was agreed at hardly more
/// cost: two or three instructions in a hundred.
///
/// It comes out of a negotiation, which must be the first thing on a link: what a peer sends ahead of it is a sign that it
/// does without. If the peer knows nothing of it, refuses or stays silent, the link goes on with the standard operations, and
/// [`agreement`](Self::agreement) says why; unless something was [required](AdvancedOptions::require).
///
/// A link is a stream, too, as a [`StandardLink`] is: what is written goes in messages of up to a buffer each, and what was
/// agreed on is done to each of them. A stream of which a part was refused cannot be read on.
///
/// It is shared by threads, by reference or in an [`Arc`], and cannot be split: both directions have what was agreed on in
/// common.
pub struct AdvancedLink {
    pub(super) link: StandardLink,
    pub(super) agreement: Agreement,
    /// What messages pass through; `None` if they travel as they are.
    pub(super) pipeline: Option<Arc<Pipeline>>,
    /// What a successor of the peer must agree to, with reliable delivery.
    pub(super) successors: Option<Box<AdvancedOptions>>,
    /// Messages are measured, and travel as they are: otherwise the pipeline measures them.
    measured: bool,
}

/// The outcome of a negotiation: what was agreed, and what messages pass through then.
type Settled = (Agreement, Option<Arc<Pipeline>>);

impl AdvancedLink {
    /// Proposes `options` to the peer and waits for its answer no longer than `time`.
    ///
    /// # Errors
    /// [`Error::NotAgreed`] if something that is required cannot be had; [`Error::Unsupported`] if the link has negotiated
    /// before; the link's end; [`Error::Timeout`] if the peer fell silent when it was too late to do without;
    /// [`Error::Handshake`] if it went back on what was agreed.
    pub fn negotiate(link: StandardLink, options: &AdvancedOptions, time: Duration) -> Result<Self> {
        Self::agree(link, options, true, time)
    }

    /// Waits for the peer's proposal no longer than `time`, and answers it.
    ///
    /// # Errors
    /// As [`negotiate`](Self::negotiate).
    pub fn wait_for_negotiation(
        link: StandardLink,
        options: &AdvancedOptions,
        time: Duration,
    ) -> Result<Self> {
        Self::agree(link, options, false, time)
    }

    fn agree(link: StandardLink, options: &AdvancedOptions, start: bool, time: Duration) -> Result<Self> {
        let config = options.reliable_config();
        let (agreement, pipeline) = Self::settle(&link, options, config, start, time.into())?;
        let measured = agreement.features.contains(Features::STATISTICS) && pipeline.is_none();
        let reliable = pipeline.as_ref().is_some_and(|pipeline| pipeline.is_reliable());
        let successors = reliable.then(|| Box::new(options.again(&agreement)));
        Ok(Self { link, agreement, pipeline, successors, measured })
    }

    /// Comes to an agreement, and makes the pipeline that keeps it.
    pub(super) fn settle(
        link: &StandardLink,
        options: &AdvancedOptions,
        config: Option<ReliableConfig>,
        start: bool,
        wait: Wait,
    ) -> Result<Settled> {
        let (agreement, encryption) = Self::agree_and_key(link, options, config, start, wait)?;
        link.core().agree_spin(agreement.capabilities);
        let missing = options.required - agreement.features;
        let incapable = options.needed - agreement.capabilities;
        if !missing.is_empty() || !incapable.is_empty() {
            let lacking =
                if missing.is_empty() { Fallback::Incapable(incapable) } else { Fallback::Missing(missing) };
            let fallback = agreement.fallback.unwrap_or(lacking);
            return Err(Error::NotAgreed { missing, incapable, fallback });
        }
        // In the order in which they encode. A new layer has its place here.
        let layers: Vec<_> = options.compression_layer(&agreement).into_iter().chain(encryption).collect();
        let plain = layers.is_empty();
        let stack = LayerStack::new(layers);
        let pipeline = match options.limits(&agreement) {
            Some(limits) => {
                let (pipeline, sent) = Pipeline::reliable(stack, limits);
                link.core().deliver_by(Arc::new(sent));
                Some(pipeline)
            }
            None => (!plain).then(|| Pipeline::new(stack)),
        };
        if pipeline.is_some() {
            link.core().transform_messages();
        }
        Ok((agreement, pipeline.map(Arc::new)))
    }

    #[cfg(feature = "encrypt")]
    fn agree_and_key(
        link: &StandardLink,
        options: &AdvancedOptions,
        config: Option<ReliableConfig>,
        start: bool,
        wait: Wait,
    ) -> Result<(Agreement, Option<Arc<dyn Layer>>)> {
        let kept = options.reliable.as_ref().map_or(0, |reliable| reliable.messages);
        let keys = options.key.as_ref().map(|key| Keys::new(key.clone(), link.geometry().slots(), kept));
        let driven = keys.clone().map(|keys| Box::new(keys) as Box<dyn Keying>);
        let agreement = link.core().agree(options.offer(), driven, config, start, wait)?;
        if !agreement.features.contains(Features::ENCRYPTION) {
            return Ok((agreement, None));
        }
        let layer = keys.and_then(|keys| keys.finish());
        let broken = Error::Handshake {
            what: "the peer agreed to encryption without a key: make a new link",
            found: None,
        };
        let layer: Arc<dyn Layer> = Arc::new(layer.ok_or(broken)?);
        Ok((agreement, Some(layer)))
    }

    #[cfg(not(feature = "encrypt"))]
    fn agree_and_key(
        link: &StandardLink,
        options: &AdvancedOptions,
        config: Option<ReliableConfig>,
        start: bool,
        wait: Wait,
    ) -> Result<(Agreement, Option<Arc<dyn Layer>>)> {
        Ok((link.core().agree(options.offer(), None, config, start, wait)?, None))
    }

    /// What was agreed, or why nothing was.
    pub fn agreement(&self) -> &Agreement {
        &self.agreement
    }

    /// Latencies, rates and what else the statistics of the link say, of both directions; `None` unless they were agreed on.
    /// Both ends and every observer see the same.
    pub fn metrics(&self) -> Option<Metrics> {
        let agreed = self.agreement.features.contains(Features::STATISTICS);
        agreed.then(|| Metrics::read(self.core().region().views()))
    }

    #[inline(always)]
    pub(crate) fn core(&self) -> &Arc<LinkCore> {
        self.link.core()
    }

    #[inline(always)]
    pub(crate) fn pipeline(&self) -> Option<&Pipeline> {
        self.pipeline.as_deref()
    }

    #[inline(always)]
    fn before_send(&self) {
        if self.measured {
            self.core().tick();
        }
    }

    sending_methods!();
    receiving_methods!();
    connecting_methods!();
}

link_methods!(AdvancedLink);

/// A link that does not negotiate: the standard operations, and no others.
impl From<StandardLink> for AdvancedLink {
    fn from(link: StandardLink) -> Self {
        let agreement = Agreement::standard(Fallback::NothingShared);
        Self { link, agreement, pipeline: None, successors: None, measured: false }
    }
}

impl fmt::Debug for AdvancedLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdvancedLink").field("link", &self.link).field("agreement", &self.agreement).finish()
    }
}
