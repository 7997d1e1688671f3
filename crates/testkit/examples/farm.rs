//! A farm on this machine, for trying and measuring: `farm ADDRESS WORKERS LATENCY_MS`.

use std::time::Duration;

use crossdock_testkit::farm::TestFarm;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [address, workers, latency] = &words[..] else { panic!("usage: farm ADDRESS WORKERS LATENCY_MS") };
    let farm = TestFarm::listen(address, workers.parse().expect("a number of workers"), &[], None);
    let latency = Duration::from_millis(latency.parse().expect("milliseconds"));
    farm.behave(|behaviour| behaviour.latency = latency);
    println!("{}", farm.address);
    loop {
        std::thread::sleep(Duration::from_secs(2));
        let requests = farm.take_requests();
        if !requests.is_empty() {
            println!("{requests:?}");
        }
    }
}
