"""The work of `sandpool bench` by CPython's multiprocessing and concurrent.futures, start method fork.

`cpython.py KEY [--quick]` prints one figure in the key's unit, after a warm-up that doesn't count. Counts are smaller
than Sandpool's where that is needed to be done in a second; a figure is always for one operation.
"""

import concurrent.futures
import multiprocessing
import sys
import time

MIB = 1 << 20
QUICK = "--quick" in sys.argv
FORK = multiprocessing.get_context("fork")


def timed(count, work):
    """Seconds for one operation of the second of two rounds."""
    work(max(1, count // 10))
    begin = time.perf_counter()
    work(count)
    return (time.perf_counter() - begin) / count


def scaled(count):
    return max(10, count // 10) if QUICK else count


def nothing():
    pass


def identity(number):
    return number


def start_join(context, count, touched):
    memory = bytearray(b"\1") * touched

    def work(count):
        for _ in range(count):
            process = context.Process(target=nothing)
            process.start()
            process.join()

    seconds = timed(count, work)
    assert len(memory) == touched
    return seconds * 1e6


def with_pool(count, work):
    with FORK.Pool(2) as pool:
        return timed(scaled(count), lambda count: work(pool, count)) * 1e6


def pool_map(pool, count, chunksize):
    assert len(pool.map(identity, range(count), chunksize)) == count


def pool_imap_unordered(pool, count):
    assert sum(1 for _ in pool.imap_unordered(identity, range(count))) == count


def pool_apply(pool, count):
    for number in range(count):
        pool.apply(identity, (number,))


def executor_submit():
    def work(count):
        futures = [executor.submit(identity, number) for number in range(count)]
        assert sum(future.result() for future in futures) == count * (count - 1) // 2

    with concurrent.futures.ProcessPoolExecutor(2, mp_context=FORK) as executor:
        return timed(scaled(10_000), work) * 1e6


def put_all(queue, item, count):
    for _ in range(count):
        queue.put(item)


def through_queue(item, count):
    """Seconds for an item: from the first one on, so that starting the producer isn't measured."""
    queue = FORK.Queue()
    producer = FORK.Process(target=put_all, args=(queue, item, count))
    producer.start()
    assert queue.get() == item
    begin = time.perf_counter()
    for _ in range(count - 1):
        got = queue.get()
    elapsed = time.perf_counter() - begin
    # Both ends of it, as the other side does.
    assert got == item if isinstance(item, int) else got[0] == item[0] and got[-1] == item[-1]
    producer.join()
    return elapsed / (count - 1)


def queue_small():
    through_queue(7, scaled(5_000))
    return through_queue(7, scaled(50_000)) * 1e6


def queue_large():
    through_queue(bytes(MIB), 10)
    return MIB / through_queue(bytes(MIB), scaled(200)) / 1e9


def echo(connection):
    while (item := connection.recv()) is not None:
        connection.send(item)


def pipe_rtt():
    here, there = FORK.Pipe()
    process = FORK.Process(target=echo, args=(there,))
    process.start()

    def work(count):
        for number in range(count):
            here.send(number)
            here.recv()

    seconds = timed(scaled(20_000), work)
    here.send(None)
    process.join()
    return seconds * 1e6


def dict_set():
    with FORK.Manager() as manager:
        shared = manager.dict()
        keys = [f"key {number}" for number in range(1000)]

        def work(count):
            for number in range(count):
                shared[keys[number % 1000]] = number

        return timed(scaled(10_000), work) * 1e6


def lock_many(lock, count):
    for _ in range(count):
        with lock:
            pass


def lock_uncontended():
    lock = FORK.Lock()
    return timed(scaled(500_000), lambda count: lock_many(lock, count)) * 1e9


def increment_many(value, count):
    for _ in range(count):
        with value.get_lock():
            value.value += 1


def run_timed(barrier, work, thing, count, times, racer):
    barrier.wait()
    times[2 * racer] = time.monotonic()
    work(thing, count)
    times[2 * racer + 1] = time.monotonic()


def race(work, thing, count):
    """Nanoseconds for one of all operations of two processes that begin together, and look at the clock themselves."""

    def once(count):
        barrier, times = FORK.Barrier(2), FORK.RawArray("d", 4)
        arguments = (barrier, work, thing, count, times)
        processes = [FORK.Process(target=run_timed, args=(*arguments, racer)) for racer in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        return max(times[1::2]) - min(times[0::2])

    once(max(1, count // 10))
    return once(count) / (2 * count) * 1e9


def idle(event, ready):
    ready.set()
    event.wait()


def idle_private_kib():
    """A process with memory of its own, so one by spawn."""
    spawn = multiprocessing.get_context("spawn")
    event, ready = spawn.Event(), spawn.Event()
    process = spawn.Process(target=idle, args=(event, ready))
    process.start()
    ready.wait()
    with open(f"/proc/{process.pid}/smaps_rollup", encoding="ascii") as rollup:
        fields = [line.split() for line in rollup]
    event.set()
    process.join()
    return sum(int(field[1]) for field in fields if field[0].startswith("Private_"))


WORK = {
    "process_start_join_us": lambda: start_join(FORK, scaled(200), MIB),
    "process_start_join_64MiB_us": lambda: start_join(FORK, scaled(200), 64 * MIB),
    "process_spawn_join_us": lambda: start_join(multiprocessing.get_context("spawn"), 5, MIB),
    "pool_map_chunk1_us_per_task": lambda: with_pool(20_000, lambda pool, count: pool_map(pool, count, 1)),
    "pool_map_auto_us_per_task": lambda: with_pool(1_000_000, lambda pool, count: pool_map(pool, count, None)),
    "pool_imap_unordered_us_per_task": lambda: with_pool(20_000, pool_imap_unordered),
    "pool_apply_rtt_us": lambda: with_pool(3_000, pool_apply),
    "executor_submit_us_per_task": executor_submit,
    "queue_small_us_per_msg": queue_small,
    "queue_1MiB_GBps": queue_large,
    "pipe_rtt_us": pipe_rtt,
    "lock_uncontended_ns": lock_uncontended,
    "manager_dict_set_us": dict_set,
    "lock_contended2_ns": lambda: race(lock_many, FORK.Lock(), scaled(200_000)),
    "value_inc_contended2_ns": lambda: race(increment_many, FORK.Value("q", 0), scaled(100_000)),
    "idle_process_private_kib": idle_private_kib,
}

if __name__ == "__main__":
    if sys.argv[1] == "--list":
        print("\n".join(WORK))
    else:
        print(WORK[sys.argv[1]]())
