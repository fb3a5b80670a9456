// unsafe: memory that is lent for a message counts as not initialized.
//! iceoryx2: publish-subscribe in each direction, written and read in place, as in its own benchmarks; polled, or with an
//! event to wake the receiver.

use hqq_bench::{Case, Exchange, How, Kind, Outcome, Session, System, Workload};
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;

use crate::common::{capacity, read, spin, write};
use crate::traces::Traces;

struct Ports {
    output: Publisher<ipc::Service, [u8], ()>,
    input: Subscriber<ipc::Service, [u8], ()>,
    /// Wakes the other end, and is woken by it.
    bells: Option<(Notifier<ipc::Service>, Listener<ipc::Service>)>,
    /// The ports live on it.
    _node: Node<ipc::Service>,
}

impl Exchange for Ports {
    #[inline]
    fn send(&mut self, how: How, number: u64, size: usize) -> Outcome {
        let sample = self.output.loan_slice_uninit(size)?;
        // SAFETY: the memory is shared memory, which the kernel handed over zeroed; any bytes are valid bytes.
        let mut sample = unsafe { sample.assume_init() };
        write(how, number, sample.payload_mut());
        sample.send()?;
        if let Some((bell, _)) = &self.bells {
            bell.notify()?;
        }
        Ok(())
    }

    #[inline]
    fn recv(&mut self, how: How, number: u64, _size: usize) -> Outcome {
        let sample = match &self.bells {
            None => spin(|| Ok(self.input.receive()?))?,
            Some((_, sleeper)) => loop {
                sleeper.blocking_wait(|_| {})?;
                if let Some(sample) = self.input.receive()? {
                    break sample;
                }
            },
        };
        read(how, number, sample.payload())
    }
}

/// The crate `iceoryx2`.
pub struct Iceoryx {
    traces: Traces,
    sleeps: bool,
}

impl Iceoryx {
    /// Receivers look again and again.
    pub fn polled(traces: &Traces) -> Self {
        Self { traces: traces.clone(), sleeps: false }
    }

    /// Receivers sleep for an event.
    pub fn event(traces: &Traces) -> Self {
        Self { traces: traces.clone(), sleeps: true }
    }

    /// Its files bear a name of this run's, so that they can be found when it is over.
    fn config(&self) -> Outcome<Config> {
        let mut config = Config::default();
        let folder =
            self.traces.folder().to_str().ok_or("the folder for temporary files has a strange name")?;
        config.global.set_root_path(&Path::new(folder.as_bytes())?);
        config.global.prefix = FileName::new(self.traces.prefix().as_bytes())?;
        Ok(config)
    }

    fn open(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        let node = NodeBuilder::new()
            .config(&self.config()?)
            .signal_handling_mode(SignalHandlingMode::Disabled)
            .create::<ipc::Service>()?;
        let name = |what: &str, there: bool| {
            let direction = if there { "there" } else { "back" };
            ServiceName::new(&format!("{}/{what}/{direction}", session.name()))
        };
        // A round trip has one message on its way; a flow must not lose any.
        let flows = !session.case().kind.is_timed();
        let data = |there| -> Outcome<_> {
            let service = node.service_builder(&name("data", there)?).publish_subscribe::<[u8]>();
            let service = service.max_publishers(1).max_subscribers(1).max_nodes(2).history_size(0);
            let service = service.subscriber_max_buffer_size(if flows { capacity(session) } else { 1 });
            Ok(service.enable_safe_overflow(!flows).open_or_create()?)
        };
        let event = |there| -> Outcome<_> {
            let service = node.service_builder(&name("event", there)?).event();
            Ok(service.max_notifiers(1).max_listeners(1).open_or_create()?)
        };
        let leads = session.leads();
        let output = data(leads)?;
        let output = output.publisher_builder().initial_max_slice_len(session.size());
        let output = output.backpressure_strategy(BackpressureStrategy::RetryUntilDelivered).create()?;
        let input = data(!leads)?.subscriber_builder().create()?;
        let bells = if self.sleeps {
            Some((event(leads)?.notifier_builder().create()?, event(!leads)?.listener_builder().create()?))
        } else {
            None
        };
        // What is published before the subscriber is there is lost.
        session.barrier()?;
        Ok(Box::new(Ports { output, input, bells, _node: node }))
    }
}

impl System for Iceoryx {
    fn name(&self) -> &'static str {
        if self.sleeps { "iceoryx2-event" } else { "iceoryx2" }
    }

    fn can(&self, case: &Case) -> bool {
        use Kind::{Pool, Sleeping, Slot, ThroughputMpmc, Untouched};
        match case.kind {
            Sleeping => self.sleeps,
            kind => !self.sleeps && matches!(kind, Slot | Pool | Untouched | ThroughputMpmc),
        }
    }

    fn lead(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        self.open(session)
    }

    fn follow(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        self.open(session)
    }
}
