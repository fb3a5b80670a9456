//! Random schedules of links with an agreement.

use std::time::Instant;

use hqq_tests::schedule::{Feature, Figures, STEPS, run_all};

#[derive(clap::Args)]
pub struct Wishes {
    /// Schedules of each set of features
    #[arg(long, default_value_t = 200)]
    count: u64,
    /// The first one's seed
    #[arg(long, default_value_t = 1000)]
    from: u64,
}

pub fn run(wishes: &Wishes) -> Result<(), String> {
    let began = Instant::now();
    let all = run_all(wishes.from, wishes.count, STEPS).map_err(|difference| difference.to_string())?;
    let Figures { steps, received, held_up, successors, again } = all;
    println!(
        "{} sets of features, {} schedules each: {steps} calls, {received} messages received, {held_up} sends held \
         up, {successors} successors, {again} messages sent again; all as the model has it; {:.0} s",
        Feature::sets().len(),
        wishes.count,
        began.elapsed().as_secs_f64()
    );
    Ok(())
}
