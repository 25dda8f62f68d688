//! Times of the pieces of Sandpool by themselves, in one process: `make bench-inner`, or `inner [FILTER]`.
//!
//! `sandpool bench` measures the pieces together, and beside others. The times here are for a change of one piece.

use criterion::{BatchSize, Criterion};
use sandpool::testing::inner::Pieces;

fn main() {
    let mut pieces = Pieces::new();
    let mut criterion = Criterion::default().configure_from_args();
    criterion.bench_function("queue: put and get 8 bytes", |bencher| bencher.iter(|| pieces.queue()));
    criterion.bench_function("lock: acquire and release", |bencher| bencher.iter(|| pieces.lock()));
    criterion.bench_function("journaled lock: take and give back", |bencher| {
        bencher.iter(|| pieces.journaled_lock());
    });
    criterion.bench_function("heap: allocate and free 64 KiB", |bencher| bencher.iter(|| pieces.heap()));
    criterion.bench_function("1000 host calls", |bencher| bencher.iter(|| pieces.host_calls(1000)));
    criterion.bench_function("instantiate", |bencher| {
        bencher.iter_batched(|| pieces.empty(), |empty| pieces.instantiate(empty), BatchSize::PerIteration);
    });
    criterion.bench_function("fork and wait", |bencher| bencher.iter(|| pieces.fork()));
    criterion.final_summary();
}
