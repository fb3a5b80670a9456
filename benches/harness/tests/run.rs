//! A short run of every system of this repository, between this program and a second process of it.

use std::env;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};

use hqq_bench::{
    Case, Exchange, How, Kind, Outcome, Placement, Plan, Session, System, Workload, lead, own, payload, raw,
    serve,
};

/// Queues between two threads, one each way.
struct Channel;

/// The ends of both queues that one thread uses.
struct Ends(Sender<Vec<u8>>, Receiver<Vec<u8>>);

impl System for Channel {
    fn name(&self) -> &'static str {
        "channel"
    }

    fn placement(&self) -> Placement {
        Placement::BetweenThreads
    }

    fn can(&self, case: &Case) -> bool {
        matches!(case.kind, Kind::Slot | Kind::ThroughputMpmc)
    }

    fn lead(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        let ((there, inbox), (back, answers)) = (channel(), channel());
        session.share(Ends(back, inbox))?;
        Ok(Box::new(Ends(there, answers)))
    }

    fn follow(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        Ok(Box::new(session.shared::<Ends>()?))
    }
}

impl Exchange for Ends {
    fn send(&mut self, _: How, number: u64, size: usize) -> Outcome {
        let mut message = vec![0; size];
        payload::write(number, &mut message);
        Ok(self.0.send(message)?)
    }

    fn recv(&mut self, _: How, number: u64, _: usize) -> Outcome {
        payload::read(number, &self.1.recv()?)
    }
}

/// Fails in the second process.
struct Broken;

impl System for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn can(&self, _: &Case) -> bool {
        true
    }

    fn lead(&self, session: &Session) -> Outcome<Box<dyn Workload>> {
        session.recv()?;
        Err("received something unexpectedly".into())
    }

    fn follow(&self, _: &Session) -> Outcome<Box<dyn Workload>> {
        Err("as it was meant to be".into())
    }
}

fn main() -> Outcome {
    let mut systems: Vec<Box<dyn System>> = raw().into_iter().chain(own()).collect();
    systems.extend([Box::new(Channel) as Box<dyn System>, Box::new(Broken)]);
    let names: Vec<&str> = systems.iter().map(|system| system.name()).collect();
    let sound: Vec<String> =
        names.iter().filter(|name| **name != "broken").map(|&name| name.into()).collect();
    if env::args().nth(1).as_deref() == Some("second") {
        // The first process reports failures of this one.
        let _ = serve(&systems);
        return Ok(());
    }
    let second = || -> Outcome<Command> {
        let mut command = Command::new(env::current_exe()?);
        command.arg("second");
        Ok(command)
    };
    let cases = Case::select(None, None);
    let plan = Plan { systems: &systems, cases, only: sound, beside_hqq: true, rounds: 2 };
    let mut last = (0, 0);
    let facts = lead(&plan, second()?, |done, all| last = (done, all))?;
    assert!(last.0 == last.1 && last.0 > 0, "{last:?}");
    assert_eq!(facts.rows.len(), plan.pairs().len());
    for row in &facts.rows {
        let timed = row.rtt_ns.is_some_and(|times| times.p50 > 0 && times.p50 <= times.max);
        let rate = row.messages_per_second.or(row.bytes_per_second).is_some_and(|rate| rate > 0.0);
        assert!(timed != rate, "{row:?}");
        let ratio = row.ratio_to_raw.is_some_and(|ratio| ratio.is_finite() && ratio > 0.0);
        assert!(ratio && row.raw.is_some(), "{row:?}");
        assert_eq!(row.between.is_some(), row.system == "channel", "{row:?}");
        assert_eq!(row.cpu.is_some(), row.case == "paced", "{row:?}");
        assert_eq!(row.ratio_to_single.is_some(), ["batch", "crowd"].contains(&&*row.case), "{row:?}");
    }
    let beside = facts.rows.iter().filter(|row| row.system == "hqq").all(|row| row.ratio_to_hqq == Some(1.0));
    assert!(beside, "each row of hqq is compared with itself");

    let cases = vec![Case::new(Kind::Slot, 8)];
    let plan = Plan { systems: &systems, cases, only: vec!["broken".into()], beside_hqq: false, rounds: 1 };
    let failure = lead(&plan, second()?, |_, _| {}).unwrap_err().to_string();
    assert!(failure.contains("broken at slot") && failure.contains("as it was meant to be"), "{failure}");
    println!("{} rows", facts.rows.len());
    Ok(())
}
