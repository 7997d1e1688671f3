use std::collections::BTreeMap;
use std::sync::mpsc;

fn main() {
    let (sender, receiver) = mpsc::channel();
    for n in 0..4u64 {
        let sender = sender.clone();
        std::thread::spawn(move || sender.send((n, (1..=20).map(|k| k * n).sum::<u64>())).unwrap());
    }
    drop(sender);
    let all: BTreeMap<u64, u64> = receiver.into_iter().collect();
    assert_eq!(all.values().sum::<u64>(), 210 * 6);
    let caught = std::panic::catch_unwind(|| if all.len() == 4 { panic!("on purpose") });
    assert!(caught.is_err());
    let root: f64 = (1..=100).map(|n| (n as f64).sqrt()).sum();
    assert!((root - 671.4629471031477).abs() < 1e-9, "{root}");
    println!("hello");
}
